"""The same ward through every format of raw records: its extracts agree, in what each can carry."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.compose import compose_cohort
from flowsheet.errors import UsageError
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.write import SHAPES, write_raw_records

WARD = WardOptions(stays=24, seed=4, min_steps=1, max_steps=5, share_readmitted=0.2)
ERRORS = {
    **{"duplicates": 0.02, "text_values": 0.02, "out_of_range": 0.02, "flagged_errors": 0.02},
    **{"missing_stay_ids": 0.05, "rewritten": 0.2, "unmapped_items": 0.3},
}
ADULTS_IN_METAVISION = {"carevue": 0.0, "newborns": 0.0}
INGEST_OPTIONS = {
    "mimic3": ["cohort.options.min_hours=0"],
    "mimic4": ["cohort.options.min_hours=0"],
    "clif": ["cohort.options.min_hours=0", "cohort.options.sepsis3={}"],
    "meds": ["cohort.options.known_at=storetime", "cohort.options.sepsis3={}"],
}
RATES_OF_URINE = [f"urine_rate_{hours}h" for hours in (6, 12, 24)]
NOT_CARRIED = {
    # MEDS has the start and the end of a procedure
    "meds": ["vent"],
    # CLIF has no base excess, no fluids by mouth and no times of storage; its devices are charted
    "clif": ["be", "o2_device", "fluid_balance", *RATES_OF_URINE],
}
"""Variables that a format does not carry in full."""

OTHERS = [shape for shape in SHAPES if shape != "mimic3"]


def ignore(line: str) -> None:
    pass


def write_and_ingest(shape: str, folder: Path, options: dict[str, float]) -> Extract:
    export = ExportOptions.model_validate(ERRORS | options)
    write_raw_records(shape, WARD, export, folder / shape, ignore)
    overrides = [f"cohort.path={folder / shape}"]
    overrides += INGEST_OPTIONS[shape]
    config = compose_cohort(shape, overrides)
    return ingest(make_source(config), config, folder / f"{shape}_extract", ignore)


@pytest.fixture(scope="module")
def extracts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Extract]:
    folder = tmp_path_factory.mktemp("round_trip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(folder / "home"))
        mimic3 = {"mimic3": write_and_ingest("mimic3", folder, ADULTS_IN_METAVISION)}
        return mimic3 | {shape: write_and_ingest(shape, folder, {}) for shape in OTHERS}


def read(extract: Extract, table: str, *columns: str) -> pl.DataFrame:
    """Columns of a table; a stay is that of its subject and admission, whatever its id."""
    stays = pl.read_parquet(extract.path / "stays.parquet")
    stays = stays.select("stay_id", stay=pl.format("{} {}", "subject_id", "admitted_at"))
    frame = pl.read_parquet(extract.path / f"{table}.parquet")
    return frame.join(stays, on="stay_id").select(columns).sort(columns)


@pytest.mark.parametrize("shape", OTHERS)
def test_values_and_times_are_those_of_mimic3(shape: str, extracts: dict[str, Extract]) -> None:
    columns = ("stay", "time", "variable", "value")
    is_carried = ~pl.col("variable").is_in(NOT_CARRIED.get(shape, []))
    expected = read(extracts["mimic3"], "events", *columns).filter(is_carried)
    assert expected.height > 10_000
    found = read(extracts[shape], "events", *columns).filter(is_carried)
    assert_frame_equal(found, expected, abs_tol=1e-5)
    stay_columns = ("stay", "subject_id", "admitted_at", "discharged_at", "sex")
    expected_stays = read(extracts["mimic3"], "stays", *stay_columns)
    assert_frame_equal(read(extracts[shape], "stays", *stay_columns), expected_stays)


@pytest.mark.parametrize("shape", OTHERS)
def test_charted_drugs_are_the_same(shape: str, extracts: dict[str, Extract]) -> None:
    columns = ("stay", "start", "drug", "dose", "end", "unit")
    in_orders_only = "hydrocortisone"
    by_mouth = ["other_intake"] if shape == "clif" else []
    is_carried = ~pl.col("drug").is_in([in_orders_only, *by_mouth])
    expected = read(extracts["mimic3"], "treatments", *columns).filter(is_carried)
    found = read(extracts[shape], "treatments", *columns).filter(is_carried)
    assert_frame_equal(found, expected)


def test_mimic4_knows_results_when_they_were_stored(extracts: dict[str, Extract]) -> None:
    columns = ("stay_id", "time", "variable", "known_at")
    mimic3 = read(extracts["mimic3"], "events", *columns)
    mimic4 = read(extracts["mimic4"], "events", *columns)
    vital_signs = pl.col("variable").is_in(["hr", "map", "resp", "temp", "gcs", "urine"])
    assert_frame_equal(mimic4.filter(vital_signs), mimic3.filter(vital_signs))
    truth = pl.read_parquet(extracts["mimic4"].path.parent / "mimic4/truth/events.parquet")
    stored = truth.filter(variable="crea").select(
        "time", known_at=pl.max_horizontal("time", "stored_at"), stay_id="icustay_id"
    )
    found = mimic4.filter(variable="crea").join(stored, on=["stay_id", "time"])
    assert found.height > 50
    assert found["known_at_right"].to_list() == found["known_at"].to_list()


def test_results_are_known_at_the_same_time_in_mimic4_and_meds(
    extracts: dict[str, Extract],
) -> None:
    columns = ("stay_id", "time", "variable", "known_at")
    is_carried = ~pl.col("variable").is_in(NOT_CARRIED["meds"])
    found = read(extracts["meds"], "events", *columns).filter(is_carried)
    expected = read(extracts["mimic4"], "events", *columns).filter(is_carried)
    assert_frame_equal(found, expected)


@pytest.mark.parametrize("shape", ["clif", "meds"])
def test_onsets_are_those_of_mimic4(shape: str, extracts: dict[str, Extract]) -> None:
    columns = ("stay", "onset", "end", "response")
    expected = read(extracts["mimic4"], "episodes", *columns).filter(response="sepsis")
    assert expected.height > 3
    found = read(extracts[shape], "episodes", *columns).filter(response="sepsis")
    assert_frame_equal(found, expected)


def test_shards_are_sorted_and_their_subjects_are_listed(extracts: dict[str, Extract]) -> None:
    folder = extracts["meds"].path.parent / "meds"
    rows = pl.read_parquet(folder / "data/train/0.parquet")
    keys = rows.select("subject_id", "time")
    assert keys.equals(keys.sort("subject_id", "time", nulls_last=False, maintain_order=True))
    splits = pl.read_parquet(folder / "metadata/subject_splits.parquet")
    assert splits["subject_id"].to_list() == rows["subject_id"].unique().sort().to_list()
    codes = pl.read_parquet(folder / "metadata/codes.parquet")
    assert set(codes["code"]) == set(rows["code"])


def test_tables_of_clif_have_the_columns_of_the_format(
    extracts: dict[str, Extract], data_dir: Path
) -> None:
    folder = extracts["clif"].path.parent / "clif"
    for file in sorted(folder.glob("clif_*.parquet")):
        published = data_dir / "clif-demo/3.0" / file.name
        if published.is_file():
            assert set(pl.read_parquet_schema(file)) <= set(pl.read_parquet_schema(published))


def test_what_only_mimic3_contains_is_refused_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"only MIMIC-III has such patients: carevue=0\.5"):
        write_raw_records("mimic4", WARD, ExportOptions(carevue=0.5), tmp_path / "raw", ignore)


def test_headers_of_mimic4_are_the_databases(extracts: dict[str, Extract], data_dir: Path) -> None:
    folder = extracts["mimic4"].path.parent / "mimic4"
    written = {file.relative_to(folder) for file in folder.glob("*/*.csv.gz")}
    known = {file for file in written if (data_dir / "mimic4-demo" / file).is_file()}
    assert known == written
    for file in sorted(known):
        columns = pl.read_csv(folder / file, n_rows=0).columns
        expected = pl.read_csv(data_dir / "mimic4-demo" / file, n_rows=0).columns
        # 3.1 has one column more than the demo of 2.2 in some tables
        assert [column for column in columns if column in expected] == expected, file
