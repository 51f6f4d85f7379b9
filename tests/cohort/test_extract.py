"""An extract on disk: what was written is read back, and whatever was done to it is noticed."""

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
from flowsheet.cohort.writer import write
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.testing.tables import make_tables

HAND = Provenance(source=SourceEntry(name="hand"), variables=("hr", "lact"))


def some() -> Tables:
    return make_tables(
        stays=[
            {"stay_id": i, "subject_id": 1, "discharged_at": 30, "age": 50.0, "sex": "M"}
            for i in (1, 2)
        ],
        events=[
            {"stay_id": i, "time": h, "variable": v, "value": 4.0}
            for i in (1, 2)
            for h in (1, 2)
            for v in HAND.variables
        ],
        treatments=[
            {"stay_id": 1, "drug": "insulin", "start": 3, "end": 5, "dose": 4.0, "unit": "U"}
        ],
        episodes=[{"stay_id": 2, "onset": 5, "end": 9, "known_at": 11}],
    )


@pytest.fixture
def extract(tmp_path: Path) -> Extract:
    return write(some(), tmp_path / "extract", HAND)


def rules(folder: Path) -> set[tuple[str, str]]:
    return set(check_extract(folder).select("table", "rule").iter_rows())


def test_read_back_equal(extract: Extract):
    tables = Extract.open(extract.path, verify=True).tables()
    for table, columns in TABLES.items():
        assert getattr(tables, table).equals(getattr(some(), table))
        assert extract.scan(table).collect_schema() == pl.Schema(columns)
    assert check_extract(extract.path).is_empty()


def test_the_manifest_counts(extract: Extract):
    manifest = extract.manifest
    assert manifest.counts["subjects"] == 1
    assert manifest.counts["hours"] == 60
    assert manifest.tables["events"].rows == 8
    assert Manifest.model_validate_json((extract.path / "manifest.json").read_text()) == manifest


def test_the_same_rows_give_the_same_bytes(extract: Extract, tmp_path: Path):
    again = write(some(), tmp_path / "again", HAND)
    for table in TABLES:
        name = f"{table}.parquet"
        assert (again.path / name).read_bytes() == (extract.path / name).read_bytes()


@pytest.mark.parametrize("table", TABLES)
def test_the_fingerprint_sees_every_table(extract: Extract, tmp_path: Path, table: str):
    fewer = Tables(**(vars(some()) | {table: getattr(some(), table)[1:]}))
    assert write(fewer, tmp_path / "fewer", HAND).fingerprint != extract.fingerprint


def rewrite(
    change: Callable[[pl.DataFrame], pl.DataFrame], table: str = "events"
) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / f"{table}.parquet"
        change(pl.read_parquet(file)).write_parquet(file)

    return act


def edit(**values: object) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return act


def put(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def folder_for_a_table(folder: Path) -> None:
    (folder / "episodes.parquet").unlink()
    (folder / "episodes.parquet").mkdir()


def cut(folder: Path) -> None:
    file = folder / "events.parquet"
    file.write_bytes(file.read_bytes()[:-50])


DAMAGE: dict[str, tuple[Callable[[Path], object], tuple[str, str]]] = {
    "no folder": (shutil.rmtree, ("extract", "missing_folder")),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), ("manifest", "missing_manifest")),
    "manifest empty": (put("manifest.json", b""), ("manifest", "manifest")),
    "manifest a list": (put("manifest.json", b"[]"), ("manifest", "manifest")),
    "manifest bytes": (put("manifest.json", b"\xff\xfe{}"), ("manifest", "manifest")),
    "manifest without keys": (
        put("manifest.json", b'{"schema_version": 1}'),
        ("manifest", "manifest"),
    ),
    "manifest of another version": (edit(schema_version=99), ("manifest", "manifest")),
    "manifest with more": (edit(mood="good"), ("manifest", "manifest")),
    "manifest without a table": (edit(tables={}), ("manifest", "missing_entry")),
    "another fingerprint": (edit(fingerprint="0" * 64), ("manifest", "fingerprint")),
    "no table": (lambda f: (f / "episodes.parquet").unlink(), ("episodes", "missing_file")),
    "a folder for a table": (
        folder_for_a_table,
        ("episodes", "missing_file"),
    ),
    "table empty": (put("stays.parquet", b""), ("stays", "unreadable_file")),
    "table text": (put("events.parquet", b"stay_id,time\n1,2\n"), ("events", "unreadable_file")),
    "table cut": (cut, ("events", "unreadable_file")),
    "table changed": (rewrite(lambda f: f.with_columns(pl.col("value") + 1)), ("events", "sha256")),
    "impossible value": (
        rewrite(lambda f: f.with_columns(value=pl.lit(-5.0))),
        ("events", "plausible_range"),
    ),
    "column gone": (rewrite(lambda f: f.drop("known_at")), ("events", "missing_column")),
    "column renamed": (
        rewrite(lambda f: f.rename({"sex": "gender"}), "stays"),
        ("stays", "extra_column"),
    ),
    "type changed": (
        rewrite(lambda f: f.cast({"age": pl.Int32}), "stays"),
        ("stays", "column_type"),
    ),
    "no columns": (rewrite(lambda f: f.select(), "treatments"), ("treatments", "missing_column")),
    "no rows": (rewrite(lambda f: f.clear(), "stays"), ("events", "known_stay")),
    "stay twice": (rewrite(lambda f: pl.concat([f, f]), "stays"), ("stays", "duplicate")),
    "rows mixed": (rewrite(lambda f: f.reverse()), ("events", "sorted")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_becomes_a_line(extract: Extract, case: str):
    damage, line = DAMAGE[case]
    damage(extract.path)
    assert line in rules(extract.path)


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_noticed_when_opening(extract: Extract, case: str):
    DAMAGE[case][0](extract.path)
    with pytest.raises(CheckFailed) as refused:
        Extract.open(extract.path, verify=True).tables()
    assert str(extract.path) in str(refused.value)


def test_tables_made_by_hand_are_checked_without_a_manifest(tmp_path: Path):
    for table in TABLES:
        getattr(some(), table).write_parquet(tmp_path / f"{table}.parquet")
    assert rules(tmp_path) == {("manifest", "missing_manifest")}
    rewrite(lambda f: f.with_columns(value=pl.lit(float("inf"))))(tmp_path)
    assert rules(tmp_path) == {("manifest", "missing_manifest"), ("events", "finite")}


@given(place=st.integers(0, 5_000), byte=st.integers(0, 255), table=st.sampled_from(sorted(TABLES)))
@example(
    place=417, byte=1, table="treatments"
)  # a length of 2**61 that one reader tries to allocate
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_byte_never_ends_in_a_traceback(
    tmp_path: Path, place: int, byte: int, table: str
):
    shutil.rmtree(tmp_path / "extract", ignore_errors=True)
    extract = write(some(), tmp_path / "extract", HAND)
    file = extract.path / f"{table}.parquet"
    data = bytearray(file.read_bytes())
    before = data[place % len(data)]
    data[place % len(data)] = byte
    file.write_bytes(bytes(data))
    failures = check_extract(extract.path)
    assert failures.schema == pl.Schema(FAILURES)
    assert failures.is_empty() == (byte == before)


def test_writing_where_one_may_not_is_an_error_in_words(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FlowsheetError, match="could not write"):
        write(some(), tmp_path / "file" / "extract", HAND)
