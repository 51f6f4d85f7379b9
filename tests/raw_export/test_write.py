"""Raw tables of the simulated ward: an ingest finds the true values and excludes data errors."""

import gzip
import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.cohort import catalogue
from flowsheet.cohort.blood_gases import LOWEST_PO2
from flowsheet.cohort.derived import derivable_variables
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.compose import compose_cohort
from flowsheet.errors import FlowsheetError
from flowsheet.raw_export.items import list_charted_item_ids
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.write import CHARTED_TABLES, write_raw_records

MANY_ERRORS = {
    **{"duplicates": 0.02, "text_values": 0.02, "out_of_range": 0.02, "flagged_errors": 0.02},
    **{"missing_stay_ids": 0.05, "rewritten": 0.2, "unmapped_items": 0.3, "newborns": 0.0},
}


def ignore(line: str) -> None:
    pass


def make_ward(stays: int, seed: int = 1, max_steps: int = 9) -> WardOptions:
    return WardOptions(
        stays=stays, seed=seed, min_steps=1, max_steps=max_steps, share_readmitted=0.2
    )


def read_table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / f"{name}.csv.gz", infer_schema=False)


def read_truth(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / "truth" / f"{name}.parquet")


def read_error_counts(folder: Path) -> dict[str, dict[str, int]]:
    """Rows by data error, by table."""
    summary = json.loads((folder / "truth" / "summary.json").read_text(encoding="utf-8"))
    counts: dict[str, dict[str, int]] = summary["data_errors"]
    return counts


def ingest_folder(folder: Path, target: Path) -> Extract:
    config = compose_cohort("mimic3", [f"cohort.path={folder}", "cohort.options.min_hours=0"])
    return ingest(make_source(config), config, target, ignore)


def read_extract(extract: Extract, table: str) -> pl.DataFrame:
    return pl.read_parquet(extract.path / f"{table}.parquet")


def count_excluded(extract: Extract, *reasons: str) -> int:
    """Rows that the ingest excluded for a reason that contains one of the texts."""
    counts = dict(extract.manifest.exclusions)
    return sum(n for reason, n in counts.items() if any(text in reason for text in reasons))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw tables with many data errors."""
    out = tmp_path_factory.mktemp("raw") / "ward"
    write_raw_records(
        "mimic3", make_ward(60), ExportOptions.model_validate(MANY_ERRORS), out, ignore
    )
    return out


@pytest.fixture(scope="module")
def extract(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Extract:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return ingest_folder(folder, tmp_path_factory.mktemp("extract") / "ward")


def test_every_value_inside_a_stay_is_found_in_the_catalogues_unit(
    folder: Path, extract: Extract
) -> None:
    stays = read_truth(folder, "stays").select("icustay_id", "intime", "outtime")
    truth = read_truth(folder, "events")
    inside = truth.join(stays, on="icustay_id").filter(
        pl.col("time").is_between("intime", "outtime")
    )
    inside = inside.select("time", "variable", "value", stay_id="icustay_id")
    found = read_extract(extract, "events").select("time", "variable", "stay_id", found="value")
    joined = inside.join(found, on=["stay_id", "time", "variable"], how="left")
    assert joined.height == inside.height > 60_000
    # A pO2 that low, of a specimen that is not told, is not arterial.
    is_venous = (pl.col("variable") == "po2") & (pl.col("value") < LOWEST_PO2)
    assert joined.filter(~is_venous)["found"].null_count() == 0
    assert joined.filter((pl.col("found") - pl.col("value")).abs() > 1e-5).height == 0
    # nothing else is found but what is derived: the coma score's total, ventilation and others
    derived = found.join(
        truth,
        left_on=["stay_id", "time", "variable"],
        right_on=["icustay_id", "time", "variable"],
        how="anti",
    )
    derivable = derivable_variables(catalogue.variables(), catalogue.drugs())
    assert set(derived["variable"]) <= {"gcs", "vent", *derivable}


def test_a_value_is_known_when_it_was_stored_but_not_before_its_time(
    folder: Path, extract: Extract
) -> None:
    truth = read_truth(folder, "events").filter(pl.col("table") == "CHARTEVENTS")
    assert truth.filter(pl.col("stored_at") < pl.col("time")).height > 0
    joined = truth.join(
        read_extract(extract, "events"),
        left_on=["icustay_id", "time", "variable"],
        right_on=["stay_id", "time", "variable"],
    )
    expected = joined.select(known_at=pl.max_horizontal("time", "stored_at"))
    assert_frame_equal(joined.select("known_at"), expected)


def test_data_errors_are_counted_as_excluded(folder: Path, extract: Extract) -> None:
    errors = read_error_counts(folder)
    total = {
        kind: sum(errors[table][kind] for table in CHARTED_TABLES)
        for kind in ("duplicates", "text_values", "out_of_range")
    }
    assert min(total.values()) > 500
    outside = count_excluded(extract, "outside the stay", "without ICUSTAY_ID")
    repeated = count_excluded(extract, "charted more than once")
    assert total["duplicates"] - outside <= repeated <= total["duplicates"]
    flagged = count_excluded(extract, "charted in error")
    assert errors["CHARTEVENTS"]["flagged_errors"] == flagged
    texts = count_excluded(extract, "no number", "text without a known meaning")
    assert total["text_values"] - outside <= texts <= total["text_values"]
    implausible = count_excluded(extract, "implausible")
    assert total["out_of_range"] - outside <= implausible <= total["out_of_range"]
    assert sum(entry.rows for entry in extract.manifest.quarantined) == 0


def test_without_rows_outside_the_stays_the_counts_are_equal(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    options = ExportOptions.model_validate({**MANY_ERRORS, "outside_stay": 0.0})
    write_raw_records("mimic3", make_ward(20, seed=3), options, folder, ignore)
    extract = ingest_folder(folder, tmp_path / "extract")
    errors = read_error_counts(folder)
    for kind, reasons in {
        "duplicates": ("charted more than once",),
        "text_values": ("no number", "text without a known meaning"),
        "out_of_range": ("implausible",),
    }.items():
        n_errors = sum(errors[table][kind] for table in CHARTED_TABLES)
        assert n_errors == count_excluded(extract, *reasons), kind
    assert count_excluded(extract, "outside the stay", "without ICUSTAY_ID") == 0
    rewritten = count_excluded(extract, "inputevents_mv: rewritten")
    assert rewritten == errors["INPUTEVENTS_MV"]["rewritten"]


def test_missing_ids_are_counted(folder: Path) -> None:
    errors = read_error_counts(folder)
    is_mapped = pl.col("ITEMID").cast(pl.Int64).is_in(sorted(list_charted_item_ids()))
    chart = read_table(folder, "CHARTEVENTS").filter(is_mapped)
    labs = read_table(folder, "LABEVENTS").filter(is_mapped)
    assert chart["ICUSTAY_ID"].null_count() == errors["CHARTEVENTS"]["missing_ids"]
    assert labs["HADM_ID"].null_count() == errors["LABEVENTS"]["missing_ids"]


def test_infusions_keep_their_rate_and_rewritten_ones_are_excluded(
    folder: Path, extract: Extract
) -> None:
    truth = read_truth(folder, "treatments").filter(
        pl.col("table") == "INPUTEVENTS_MV",
        pl.col("drug") == "norepinephrine",
        pl.col("rate").is_not_null(),
    )
    found = read_extract(extract, "treatments").filter(pl.col("drug") == "norepinephrine")
    joined = truth.join(
        found, left_on=["icustay_id", "start"], right_on=["stay_id", "start"], how="left"
    )
    with_dose = joined.filter(pl.col("dose").is_not_null())
    assert with_dose.height > 0.8 * truth.height > 0  # a few end outside their stay
    difference = (pl.col("dose") - pl.col("rate") * 60).abs()
    assert with_dose.filter(difference > 1e-6).height == 0


def test_ages_are_the_wards_and_those_over_89_are_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    options = ExportOptions(newborns=0.1, unmapped_items=0.0, unmapped_tests=0.0)
    write_raw_records("mimic3", make_ward(300, seed=2, max_steps=1), options, folder, ignore)
    extract = ingest_folder(folder, tmp_path / "extract")
    truth = read_truth(folder, "stays")
    found = read_extract(extract, "stays").select("stay_id", found="age")
    joined = truth.join(found, left_on="icustay_id", right_on="stay_id", how="left")
    newborns = joined.filter("newborn")
    assert newborns["found"].null_count() == newborns.height > 10
    old = joined.filter(~pl.col("newborn"), pl.col("age") > 89)
    assert old.height > 0
    assert set(old["found"].round(1)) == {91.4}
    adults = joined.filter(~pl.col("newborn"), pl.col("age").is_between(18, 89))
    assert (adults["found"] - adults["age"]).is_between(0, 1.6).all()


def test_most_septic_stays_are_labelled_and_few_others(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    options = ExportOptions(newborns=0.0, unmapped_items=0.0, unmapped_tests=0.0)
    write_raw_records("mimic3", make_ward(160, seed=5), options, folder, ignore)
    extract = ingest_folder(folder, tmp_path / "extract")
    stays = set(read_extract(extract, "stays")["stay_id"])
    septic = set(read_truth(folder, "episodes")["icustay_id"]) & stays
    labelled = set(read_extract(extract, "episodes")["stay_id"])
    assert len(septic & labelled) > 0.7 * len(septic)
    assert len(labelled - septic) < 0.15 * len(stays - septic)
    is_labelled = pl.col("icustay_id").is_in(list(labelled))
    systems = read_truth(folder, "stays").filter(is_labelled)["dbsource"]
    assert set(systems) == {"carevue", "metavision"}


def test_the_headers_are_the_databases(folder: Path, data_dir: Path) -> None:
    def read_header(file: Path) -> str:
        with gzip.open(file, "rt") as stream:
            return stream.readline().replace('"', "").lower()

    for file in sorted(folder.glob("*.csv.gz")):
        assert read_header(file) == read_header(data_dir / "mimic3-demo" / file.name), file.name


def test_a_stay_is_charted_in_one_system_and_its_rows_are_in_several_places(
    folder: Path,
) -> None:
    chart = read_table(folder, "CHARTEVENTS").cast({"ITEMID": pl.Int64, "ROW_ID": pl.Int64})
    chart = chart.drop_nulls("ICUSTAY_ID")
    is_metavision = pl.col("ITEMID") >= 220_000
    systems = chart.group_by("ICUSTAY_ID").agg(is_metavision.n_unique().alias("n"))
    assert set(systems["n"]) == {1}
    assert chart["ROW_ID"].is_sorted()
    assert chart["ICUSTAY_ID"].rle_id().max() > 1.3 * systems.height
    has_no_flags = pl.col("ERROR").null_count() == pl.len()
    by_system = chart.group_by(is_metavision).agg(has_no_flags)
    assert dict(by_system.iter_rows()) == {True: False, False: True}


def test_the_shares_of_rows_are_the_declared_ones(tmp_path: Path) -> None:
    options = ExportOptions(unmapped_items=0.6, not_charted=0.2, duplicates=0.05, text_values=0.03)
    summary = write_raw_records("mimic3", make_ward(20), options, tmp_path / "raw", ignore)
    counts = summary["data_errors"]["CHARTEVENTS"]
    n_mapped = counts["mapped_rows"]
    assert n_mapped / counts["rows"] == pytest.approx(0.4 / 1.05, rel=0.03)
    assert counts["duplicates"] / n_mapped == pytest.approx(0.05 / 0.8, rel=0.1)
    assert counts["text_values"] / n_mapped == pytest.approx(0.03 / 0.8, rel=0.1)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def write_and_digest(seed: int, name: str) -> dict[str, str]:
        write_raw_records("mimic3", make_ward(6), ExportOptions(seed=seed), tmp_path / name, ignore)
        files = (tmp_path / name).glob("*.gz")
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    first = write_and_digest(1, "first")
    assert write_and_digest(1, "second") == first
    assert write_and_digest(2, "third")["CHARTEVENTS.csv.gz"] != first["CHARTEVENTS.csv.gz"]


def test_plain_files_have_the_same_lines_as_compressed_ones(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    compressed = tmp_path / "compressed"
    write_raw_records("mimic3", make_ward(4), ExportOptions(), compressed, ignore)
    write_raw_records(
        "mimic3", make_ward(4), ExportOptions(compress=False, truth=False), plain, ignore
    )
    for file in compressed.glob("*.csv.gz"):
        plain_file = plain / file.name.removesuffix(".gz")
        assert gzip.decompress(file.read_bytes()) == plain_file.read_bytes()
    assert not (plain / "truth" / "events.parquet").exists()


def test_an_interrupted_writer_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(FlowsheetError, match="No space left"):
        write_raw_records("mimic3", make_ward(4), ExportOptions(), tmp_path / "raw", fail)
    assert list(tmp_path.iterdir()) == [p for p in tmp_path.iterdir() if p.name == "home"]
