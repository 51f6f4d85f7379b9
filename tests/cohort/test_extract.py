"""An extract on disk: it is read back as it was written, and any damage is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowsheet.cohort.checks import FAILURES
from flowsheet.cohort.extract import Extract, Manifest, Provenance, SourceEntry, check_extract
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.writer import write_extract
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.testing.tables import make_tables

PROVENANCE = Provenance(source=SourceEntry(name="hand"), variables=("hr", "lact"))


def small_tables() -> Tables:
    return make_tables(
        stays=[
            {"stay_id": i, "subject_id": 1, "discharged_at": 30, "age": 50.0, "sex": "M"}
            for i in (1, 2)
        ],
        events=[
            {"stay_id": i, "time": h, "variable": v, "value": 4.0}
            for i in (1, 2)
            for h in (1, 2)
            for v in PROVENANCE.variables
        ],
        treatments=[
            {"stay_id": 1, "drug": "insulin", "start": 3, "end": 5, "dose": 4.0, "unit": "U"}
        ],
        episodes=[{"stay_id": 2, "onset": 5, "end": 9, "known_at": 11}],
    )


@pytest.fixture
def extract(tmp_path: Path) -> Extract:
    return write_extract(small_tables(), tmp_path / "extract", PROVENANCE)


def broken_rules(folder: Path) -> set[tuple[str, str]]:
    """(table, rule) of every failure."""
    return set(check_extract(folder).select("table", "rule").iter_rows())


def test_an_extract_is_read_back_equal(extract: Extract):
    tables = Extract.open(extract.path, verify=True).tables()
    for table, columns in TABLES.items():
        assert getattr(tables, table).equals(getattr(small_tables(), table))
        assert extract.scan(table).collect_schema() == pl.Schema(columns)
    assert check_extract(extract.path).is_empty()


@pytest.mark.parametrize("stays", [[1], [2], [2, 1], [3], []])
def test_the_rows_of_some_stays_are_read(extract: Extract, stays: list[int]):
    tables = extract.tables(stays)
    for table in TABLES:
        rows: pl.DataFrame = getattr(small_tables(), table)
        assert getattr(tables, table).equals(rows.filter(pl.col("stay_id").is_in(stays)))


def test_the_manifest_has_counts(extract: Extract):
    manifest = extract.manifest
    assert manifest.counts["subjects"] == 1
    assert manifest.counts["hours"] == 60
    assert manifest.tables["events"].rows == 8
    assert (
        Manifest.model_validate_json((extract.path / "manifest.json").read_text(encoding="utf-8"))
        == manifest
    )


def test_the_same_rows_give_the_same_bytes(extract: Extract, tmp_path: Path):
    again = write_extract(small_tables(), tmp_path / "again", PROVENANCE)
    for table in TABLES:
        name = f"{table}.parquet"
        assert (again.path / name).read_bytes() == (extract.path / name).read_bytes()


@pytest.mark.parametrize("table", TABLES)
def test_the_fingerprint_depends_on_every_table(extract: Extract, tmp_path: Path, table: str):
    fewer = Tables(**(vars(small_tables()) | {table: getattr(small_tables(), table)[1:]}))
    assert write_extract(fewer, tmp_path / "fewer", PROVENANCE).fingerprint != extract.fingerprint


def change_table(
    change: Callable[[pl.DataFrame], pl.DataFrame], table: str = "events"
) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / f"{table}.parquet"
        change(pl.read_parquet(file)).write_parquet(file)

    return damage


def edit_manifest(**values: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_text(
            json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8"
        )

    return damage


def write_file(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def replace_table_by_folder(folder: Path) -> None:
    (folder / "episodes.parquet").unlink()
    (folder / "episodes.parquet").mkdir()


def truncate_events(folder: Path) -> None:
    file = folder / "events.parquet"
    file.write_bytes(file.read_bytes()[:-50])


DAMAGE: dict[str, tuple[Callable[[Path], object], tuple[str, str]]] = {
    "folder missing": (shutil.rmtree, ("extract", "missing_folder")),
    "manifest empty": (write_file("manifest.json", b""), ("manifest", "manifest")),
    "manifest is a list": (write_file("manifest.json", b"[]"), ("manifest", "manifest")),
    "manifest is not text": (write_file("manifest.json", b"\xff\xfe{}"), ("manifest", "manifest")),
    "manifest without keys": (
        write_file("manifest.json", b'{"schema_version": 1}'),
        ("manifest", "manifest"),
    ),
    "manifest of another version": (edit_manifest(schema_version=99), ("manifest", "manifest")),
    "manifest with an extra key": (edit_manifest(mood="good"), ("manifest", "manifest")),
    "manifest without a table": (edit_manifest(tables={}), ("manifest", "missing_entry")),
    "wrong fingerprint": (edit_manifest(fingerprint="0" * 64), ("manifest", "fingerprint")),
    "table missing": (lambda f: (f / "episodes.parquet").unlink(), ("episodes", "missing_file")),
    "folder in place of a table": (
        replace_table_by_folder,
        ("episodes", "missing_file"),
    ),
    "table empty": (write_file("stays.parquet", b""), ("stays", "unreadable_file")),
    "table is text": (
        write_file("events.parquet", b"stay_id,time\n1,2\n"),
        ("events", "unreadable_file"),
    ),
    "table truncated": (truncate_events, ("events", "unreadable_file")),
    "table changed": (
        change_table(lambda f: f.with_columns(pl.col("value") + 1)),
        ("events", "sha256"),
    ),
    "impossible value": (
        change_table(lambda f: f.with_columns(value=pl.lit(-5.0))),
        ("events", "plausible_range"),
    ),
    "column missing": (change_table(lambda f: f.drop("known_at")), ("events", "missing_column")),
    "column renamed": (
        change_table(lambda f: f.rename({"sex": "gender"}), "stays"),
        ("stays", "extra_column"),
    ),
    "type changed": (
        change_table(lambda f: f.cast({"age": pl.Int32}), "stays"),
        ("stays", "column_type"),
    ),
    "table without columns": (
        change_table(lambda f: f.select(), "treatments"),
        ("treatments", "missing_column"),
    ),
    "table without rows": (change_table(lambda f: f.clear(), "stays"), ("events", "known_stay")),
    "duplicate stays": (change_table(lambda f: pl.concat([f, f]), "stays"), ("stays", "duplicate")),
    "rows in reverse order": (change_table(lambda f: f.reverse()), ("events", "sorted")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_a_failure(extract: Extract, case: str):
    damage, failure = DAMAGE[case]
    damage(extract.path)
    assert failure in broken_rules(extract.path)


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_extract_cannot_be_opened(extract: Extract, case: str):
    DAMAGE[case][0](extract.path)
    with pytest.raises(CheckFailed) as error:
        Extract.open(extract.path, verify=True).tables()
    assert str(extract.path) in str(error.value)


def test_tables_without_a_manifest_are_checked(tmp_path: Path):
    for table in TABLES:
        getattr(small_tables(), table).write_parquet(tmp_path / f"{table}.parquet")
    assert broken_rules(tmp_path) == set()
    change_table(lambda f: f.with_columns(value=pl.lit(float("inf"))))(tmp_path)
    assert broken_rules(tmp_path) == {("events", "finite")}


@given(
    offset=st.integers(0, 5_000),
    byte=st.integers(0, 255),
    table=st.sampled_from(sorted(TABLES)),
)
# A length of 2**61, which one reader tries to allocate.
@example(offset=417, byte=1, table="treatments")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_changed_byte_is_found(tmp_path: Path, offset: int, byte: int, table: str):
    shutil.rmtree(tmp_path / "extract", ignore_errors=True)
    extract = write_extract(small_tables(), tmp_path / "extract", PROVENANCE)
    file = extract.path / f"{table}.parquet"
    data = bytearray(file.read_bytes())
    original = data[offset % len(data)]
    data[offset % len(data)] = byte
    file.write_bytes(bytes(data))
    failures = check_extract(extract.path)
    assert failures.schema == pl.Schema(FAILURES)
    assert failures.is_empty() == (byte == original)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FlowsheetError, match="could not write"):
        write_extract(small_tables(), tmp_path / "file" / "extract", PROVENANCE)
