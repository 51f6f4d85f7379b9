"""Records without what their source needs are refused, or leave a warning that stays."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.completeness import find_gaps
from flowsheet.cohort.extract import Extract, Manifest
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import TABLES
from flowsheet.cohort.sources.mimic3 import Mimic3, Mimic3Options
from flowsheet.config import CohortConfig, QuarantineConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.testing import yaib
from flowsheet.testing.tables import make_tables

HR = pl.col("variable") == "hr"


def _ingest(source: str, folder: Path, target: Path, *, allow_empty: bool) -> Manifest:
    config = CohortConfig(
        name="test",
        source=source,
        path=str(folder),
        quarantine=QuarantineConfig(max_share=0.5),
        allow_empty=allow_empty,
    )
    return ingest(make_source(config), config, target, lambda line: None).manifest


def _own_tables() -> dict[str, pl.DataFrame]:
    stays = (1, 2, 3)
    variables = ("hr", "lact")
    tables = make_tables(
        stays=[
            {"stay_id": i, "subject_id": i, "discharged_at": 30, "age": 50.0, "sex": "M"}
            for i in stays
        ],
        events=[
            {"stay_id": i, "time": 2, "variable": name, "value": 2.0 if name == "lact" else 80.0}
            for i in stays
            for name in variables
        ],
        treatments=[
            {"stay_id": 1, "drug": "insulin", "start": 3, "end": 5, "dose": 4.0, "unit": "U"}
        ],
        episodes=[{"stay_id": 2, "onset": 5, "end": 9, "known_at": 11}],
    )
    return {table: getattr(tables, table) for table in TABLES}


@pytest.fixture
def own_tables() -> dict[str, pl.DataFrame]:
    return _own_tables()


def _write(folder: Path, tables: dict[str, pl.DataFrame]) -> Path:
    folder.mkdir(exist_ok=True)
    for table, frame in tables.items():
        frame.write_parquet(folder / f"{table}.parquet")
    return folder


@pytest.mark.parametrize("table", ["treatments", "episodes"])
def test_an_own_table_that_is_there_has_a_row(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path, table: str
) -> None:
    folder = _write(tmp_path / "own", own_tables | {table: own_tables[table].clear()})
    with pytest.raises(CheckFailed, match=f"no row of {table.upper()}"):
        _ingest("extract", folder, tmp_path / "extract", allow_empty=False)
    manifest = _ingest("extract", folder, tmp_path / "extract", allow_empty=True)
    assert any(table.upper() in warning for warning in manifest.warnings)
    (folder / f"{table}.parquet").unlink()  # it is optional
    _ingest("extract", folder, tmp_path / "extract", allow_empty=False)


@pytest.mark.parametrize("table", ["stays", "events"])
def test_a_required_own_table_without_rows_is_always_refused(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path, table: str
) -> None:
    folder = _write(tmp_path / "own", own_tables | {table: own_tables[table].clear()})
    with pytest.raises(CheckFailed, match=f"no row of {table.upper()}"):
        _ingest("extract", folder, tmp_path / "extract", allow_empty=True)


def test_own_tables_without_a_vital_sign_are_refused(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    own_tables["events"] = own_tables["events"].filter(~HR)
    folder = _write(tmp_path / "own", own_tables)
    with pytest.raises(CheckFailed, match="no stay has a value of hr or map"):
        _ingest("extract", folder, tmp_path / "extract", allow_empty=False)


def test_tables_that_their_own_manifest_calls_empty_are_no_gap(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    del own_tables["treatments"]
    _ingest("extract", _write(tmp_path / "own", own_tables), tmp_path / "first", allow_empty=False)
    first = Extract.open(tmp_path / "first")
    assert first.tables().treatments.is_empty()
    again = _ingest("extract", first.path, tmp_path / "second", allow_empty=False)
    assert again.fingerprint == first.fingerprint
    assert [w for w in again.warnings if "WITHOUT A SINGLE VALUE" not in w] == []
    events = first.tables().events
    events.filter(~HR).write_parquet(first.path / "events.parquet")  # the manifest declares hr
    with pytest.raises(CheckFailed, match="no stay has a value of hr"):
        _ingest("extract", first.path, tmp_path / "third", allow_empty=False)


@pytest.mark.parametrize(
    ("column", "message"),
    [("hr", "no stay has a value of hr"), ("temp", "no stay has a value of map or sbp")],
)
@pytest.mark.parametrize("empty", [pl.lit(None, pl.Float64), pl.lit(None), pl.lit(float("nan"))])
def test_hourly_records_without_a_vital_sign_are_refused(
    tmp_path: Path, column: str, message: str, empty: pl.Expr
) -> None:
    frames = yaib.make_frames()
    frames["dyn"] = frames["dyn"].with_columns(empty.alias(column))
    folder = yaib.write_frames(tmp_path / "raw", frames)
    with pytest.raises(CheckFailed, match=message):
        _ingest("yaib", folder, tmp_path / "extract", allow_empty=False)


def test_demographics_without_any_value_leave_a_warning(tmp_path: Path) -> None:
    frames = yaib.make_frames()
    no_number = pl.lit(float("nan"))
    frames["sta"] = frames["sta"].with_columns(age=no_number, sex=pl.lit(None), height=no_number)
    folder = yaib.write_frames(tmp_path / "raw", frames)
    warnings = _ingest("yaib", folder, tmp_path / "extract", allow_empty=False).warnings
    assert warnings[-1] == "no stay has a value of age, sex, height_cm"


def test_columns_that_are_absent_or_not_known_leave_a_warning(tmp_path: Path) -> None:
    frames = yaib.make_frames()
    frames["dyn"] = frames["dyn"].rename({"urine": "urin"})
    folder = yaib.write_frames(tmp_path / "raw", frames)
    warnings = _ingest("yaib", folder, tmp_path / "extract", allow_empty=False).warnings
    (absent,) = [w for w in warnings if "the table dyn has no column alb, " in w]
    assert ", urine, " in absent
    assert "dyn.parquet: the column 'urin' is not a known variable" in warnings


def test_own_columns_that_are_not_known_leave_a_warning(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    own_tables["stays"] = own_tables["stays"].rename({"weight_kg": "weight"})
    folder = _write(tmp_path / "own", own_tables)
    warnings = _ingest("extract", folder, tmp_path / "extract", allow_empty=False).warnings
    assert "stays.parquet: the column 'weight' is not known and not read" in warnings


@pytest.mark.parametrize("name", ["treatments.csv", "treatments.pq", "TREATMENTS.parquet.gz"])
def test_a_table_of_another_kind_of_file_is_not_ignored(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path, name: str
) -> None:
    folder = _write(tmp_path / "own", own_tables)
    (folder / "treatments.parquet").rename(folder / name)
    with pytest.raises(CheckFailed, match=f"a kind that is not read: {name}"):
        _ingest("extract", folder, tmp_path / "extract", allow_empty=False)


def test_a_column_without_any_value_leaves_a_warning(tmp_path: Path) -> None:
    frames = yaib.make_frames()
    frames["dyn"] = frames["dyn"].with_columns(urine=pl.lit(None))
    frames["outc"] = frames["outc"].with_columns(label=False)
    folder = yaib.write_frames(tmp_path / "raw", frames)
    manifest = _ingest("yaib", folder, tmp_path / "extract", allow_empty=False)
    assert manifest.warnings[-2:] == (
        "no stay has a value of urine",
        "no stay has an episode: there is nothing to predict",
    )


def test_each_definition_of_sepsis_states_its_own_needs(tmp_path: Path) -> None:
    variables = {"hr", "map", "crea", "bili", "plt"}
    gaps = {}
    for definition in ("sepsis3", "adult_sepsis_event"):
        source = Mimic3(tmp_path, Mimic3Options(sepsis3={"definition": definition}))
        tables = dict.fromkeys(
            (name for names in source.needs().tables.values() for name in names), 1
        )
        gaps[definition] = find_gaps(source.needs(), tables, variables, {"cultures": 1})
    missing_antibiotics = "no stay has antibiotics, which the treatment of infection needs"
    assert gaps["adult_sepsis_event"] == [missing_antibiotics]
    assert len(gaps["sepsis3"]) == 3
    assert "brain" in gaps["sepsis3"][1]


def test_facts_that_were_recorded_long_after_discharge_are_named(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    later = pl.when(pl.col("stay_id") == 1).then(pl.col("known_at").dt.offset_by("150y"))
    own_tables["events"] = own_tables["events"].with_columns(later.otherwise("known_at"))
    folder = _write(tmp_path / "own", own_tables)
    warnings = _ingest("extract", folder, tmp_path / "extract", allow_empty=False).warnings
    assert warnings[-1].startswith("events: 1 stays have a row with known_at over 365 days after")


def test_a_column_that_own_tables_lack_is_named(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    own_tables["stays"] = own_tables["stays"].drop("height_cm")
    folder = _write(tmp_path / "own", own_tables)
    warnings = _ingest("extract", folder, tmp_path / "extract", allow_empty=False).warnings
    assert any(w.startswith("stays.parquet: no row") and "height_cm" in w for w in warnings)


def test_core_variables_and_organs_without_a_value_come_first_for_every_source(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    frames = yaib.make_frames()
    of_yaib = _ingest(
        "yaib", yaib.write_frames(tmp_path / "y", frames), tmp_path / "1", allow_empty=False
    )
    own = _ingest(
        "extract", _write(tmp_path / "own", own_tables), tmp_path / "2", allow_empty=False
    )
    for manifest in (of_yaib, own):
        core, organs = manifest.warnings[:2]
        assert core.startswith("CORE VARIABLES WITHOUT A SINGLE VALUE: ")
        assert "; crea; bun; " in core
        assert organs.startswith("COMPONENTS OF THE SOFA SCORE WITHOUT A SINGLE VALUE: ")
        assert "the liver (bili)" in organs


def test_a_simulated_ward_lacks_nothing(tmp_path: Path) -> None:
    config = CohortConfig(name="s", source="simulated", options={"stays": 20, "seed": 1})
    warnings = ingest(
        make_source(config), config, tmp_path / "e", lambda line: None
    ).manifest.warnings
    assert not [w for w in warnings if "WITHOUT A SINGLE VALUE" in w]


def test_sepsis_of_tables_without_cultures_is_refused(
    own_tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    del own_tables["episodes"]
    folder = _write(tmp_path / "own", own_tables)
    config = CohortConfig(
        name="t", source="extract", path=str(folder), responses={"sepsis": {}, "aki": {}}
    )
    with pytest.raises(UsageError, match="it needs cultures and antibiotics, which they lack"):
        ingest(make_source(config), config, tmp_path / "extract", lambda line: None)
