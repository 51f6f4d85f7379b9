"""The simulated ward as raw tables: what is written is what an ingest finds, and the dirt is what it leaves out."""

import gzip
import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.cohort import catalogue
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.compose import compose_cohort
from flowsheet.errors import FlowsheetError
from flowsheet.mimic_export.items import (
    FREE_IDS,
    charted,
    free_ids,
    quantities,
)
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.mimic_export.write import write_mimic3

DIRTY = {"duplicates": 0.02, "text_values": 0.02, "out_of_range": 0.02, "flagged_errors": 0.02}
DIRTY |= {"missing_stay_ids": 0.05, "rewritten": 0.2, "unmapped_items": 0.3, "newborns": 0.0}
SHEETS = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")


def quiet(line: str) -> None:
    pass


def ward(stays: int, seed: int = 1, longest: int = 9) -> WardOptions:
    return WardOptions(stays=stays, seed=seed, min_steps=1, max_steps=longest, share_readmitted=0.2)


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(folder / f"{name}.csv.gz", infer_schema=False)


def ingested(raw: Path, out: Path) -> Extract:
    config = compose_cohort("mimic3", [f"cohort.path={raw}", "cohort.options.min_hours=0"])
    return ingest(make_source(config), config, out, quiet)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("raw") / "ward"
    write_mimic3(ward(60), ExportOptions.model_validate(DIRTY), out, quiet)
    return out


@pytest.fixture(scope="module")
def extract(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Extract:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return ingested(folder, tmp_path_factory.mktemp("extract") / "ward")


def truth(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / "truth" / f"{name}.parquet")


def left_out(extract: Extract, *parts: str) -> int:
    counts = dict(extract.manifest.exclusions)
    return sum(n for reason, n in counts.items() if any(part in reason for part in parts))


def written(folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = json.loads(
        (folder / "truth" / "summary.json").read_text()
    )
    return found


def test_every_value_written_inside_a_stay_is_found_in_the_catalogues_unit(
    folder: Path, extract: Extract
) -> None:
    stays = truth(folder, "stays").select("icustay_id", "intime", "outtime")
    put = (
        truth(folder, "events")
        .join(stays, on="icustay_id")
        .filter(pl.col("time").is_between("intime", "outtime"))
    )
    put = put.select("time", "variable", "value", stay_id="icustay_id")
    found = pl.read_parquet(extract.path / "events.parquet").select(
        "time", "variable", "stay_id", found="value"
    )
    both = put.join(found, on=["stay_id", "time", "variable"], how="left")
    assert both.height == put.height > 60_000
    assert both["found"].null_count() == 0
    assert both.filter((pl.col("found") - pl.col("value")).abs() > 1e-5).height == 0
    # nothing else is found but the coma score's total and ventilation, which are made of what is charted
    beyond = found.join(truth(folder, "events"), left_on=["stay_id", "time", "variable"],
                        right_on=["icustay_id", "time", "variable"], how="anti")  # fmt: skip
    assert set(beyond["variable"]) <= {"gcs", "vent"}


def test_the_record_knows_a_value_when_it_was_stored_but_not_before_it_was_true(
    folder: Path, extract: Extract
) -> None:
    put = truth(folder, "events").filter(pl.col("table") == "CHARTEVENTS")
    assert put.filter(pl.col("stored_at") < pl.col("time")).height > 0
    found = pl.read_parquet(extract.path / "events.parquet")
    both = put.join(
        found, left_on=["icustay_id", "time", "variable"], right_on=["stay_id", "time", "variable"]
    )
    expected = both.select(known_at=pl.max_horizontal("time", "stored_at"))
    assert_frame_equal(both.select("known_at"), expected)


def test_the_dirt_that_was_put_in_is_counted_as_left_out(
    folder: Path, extract: Extract, tmp_path: Path
) -> None:
    dirt = written(folder)["dirt"]
    total = {
        kind: sum(dirt[sheet][kind] for sheet in SHEETS)
        for kind in ("duplicates", "text_values", "out_of_range")
    }
    assert min(total.values()) > 500
    outside = left_out(extract, "outside the stay", "without ICUSTAY_ID")
    near = left_out(extract, "charted more than once")
    assert total["duplicates"] - outside <= near <= total["duplicates"]
    assert dirt["CHARTEVENTS"]["flagged_errors"] == left_out(extract, "charted in error")
    words = left_out(extract, "no number", "text without a known meaning")
    assert total["text_values"] - outside <= words <= total["text_values"]
    impossible = left_out(extract, "implausible")
    assert total["out_of_range"] - outside <= impossible <= total["out_of_range"]
    assert sum(entry.rows for entry in extract.manifest.quarantined) == 0


def test_without_outside_rows_the_counts_are_equal(tmp_path: Path) -> None:
    raw, settings = tmp_path / "raw", DIRTY | {"outside_stay": 0.0}
    write_mimic3(ward(20, seed=3), ExportOptions.model_validate(settings), raw, quiet)
    extract = ingested(raw, tmp_path / "extract")
    dirt = written(raw)["dirt"]
    for kind, said in {
        "duplicates": ("charted more than once",),
        "text_values": ("no number", "text without a known meaning"),
        "out_of_range": ("implausible",),
    }.items():
        assert sum(dirt[sheet][kind] for sheet in SHEETS) == left_out(extract, *said), kind
    assert left_out(extract, "outside the stay", "without ICUSTAY_ID") == 0
    assert left_out(extract, "inputevents_mv: rewritten") == dirt["INPUTEVENTS_MV"]["rewritten"]


def test_missing_ids_are_written_and_lose_nothing(folder: Path) -> None:
    chart, labs = table(folder, "CHARTEVENTS"), table(folder, "LABEVENTS")
    dirt = written(folder)["dirt"]
    used = [str(i) for c in charted() for i in (c.carevue, c.metavision)]
    assert (
        chart.filter(pl.col("ITEMID").is_in(used))["ICUSTAY_ID"].null_count()
        == dirt["CHARTEVENTS"]["missing_ids"]
    )
    assert (
        labs.filter(pl.col("ITEMID").is_in(used))["HADM_ID"].null_count()
        == dirt["LABEVENTS"]["missing_ids"]
    )


def test_infusions_keep_their_rate_and_rewritten_ones_do_not_count(
    folder: Path, extract: Extract
) -> None:
    put = truth(folder, "treatments").filter(
        pl.col("table") == "INPUTEVENTS_MV",
        pl.col("drug") == "norepinephrine",
        pl.col("rate").is_not_null(),
    )
    found = pl.read_parquet(extract.path / "treatments.parquet").filter(
        pl.col("drug") == "norepinephrine"
    )
    both = put.join(
        found, left_on=["icustay_id", "start"], right_on=["stay_id", "start"], how="left"
    )
    kept = both.filter(pl.col("dose").is_not_null())
    assert kept.height > 0.8 * put.height > 0  # a few end outside their stay
    assert kept.filter((pl.col("dose") - pl.col("rate") * 60).abs() > 1e-6).height == 0


def test_ages_are_the_wards_and_those_over_89_are_hidden(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_mimic3(
        ward(300, seed=2, longest=1),
        ExportOptions(newborns=0.1, unmapped_items=0.0, unmapped_tests=0.0),
        raw,
        quiet,
    )
    extract = ingested(raw, tmp_path / "extract")
    who = truth(raw, "stays")
    stays = pl.read_parquet(extract.path / "stays.parquet").select("stay_id", found="age")
    both = who.join(stays, left_on="icustay_id", right_on="stay_id", how="left")
    assert both.filter("newborn")["found"].null_count() == both.filter("newborn").height > 10
    old = both.filter(~pl.col("newborn"), pl.col("age") > 89)
    assert old.height > 0
    assert set(old["found"].round(1)) == {91.4}
    first = both.filter(~pl.col("newborn"), pl.col("age").is_between(18, 89))
    assert ((first["found"] - first["age"]).is_between(0, 1.6)).all()


def test_most_septic_stays_are_labelled_and_few_others(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_mimic3(
        ward(160, seed=5),
        ExportOptions(newborns=0.0, unmapped_items=0.0, unmapped_tests=0.0),
        raw,
        quiet,
    )
    extract = ingested(raw, tmp_path / "extract")
    stays = set(pl.read_parquet(extract.path / "stays.parquet")["stay_id"])
    septic = set(truth(raw, "episodes")["icustay_id"]) & stays
    labelled = set(pl.read_parquet(extract.path / "episodes.parquet")["stay_id"])
    assert len(septic & labelled) > 0.7 * len(septic)
    assert len(labelled - septic) < 0.1 * len(stays - septic)
    by_system = (
        truth(raw, "stays")
        .filter(pl.col("icustay_id").is_in(list(labelled)))["dbsource"]
        .value_counts()
    )
    assert set(by_system["dbsource"]) == {"carevue", "metavision"}


def test_the_headers_are_the_databases(folder: Path, data_dir: Path) -> None:
    demo = data_dir / "mimic3-demo"
    for file in sorted(folder.glob("*.csv.gz")):
        with gzip.open(file, "rt") as ours, gzip.open(demo / file.name, "rt") as theirs:
            assert (
                ours.readline().replace('"', "").lower()
                == theirs.readline().replace('"', "").lower()
            ), file.name


def test_a_stay_belongs_to_one_system_and_lies_in_pieces(folder: Path) -> None:
    chart = (
        table(folder, "CHARTEVENTS")
        .cast({"ITEMID": pl.Int64, "ROW_ID": pl.Int64})
        .drop_nulls("ICUSTAY_ID")
    )
    systems = chart.group_by("ICUSTAY_ID").agg((pl.col("ITEMID") >= 220_000).n_unique().alias("n"))
    assert set(systems["n"]) == {1}
    assert chart["ROW_ID"].is_sorted()
    assert chart["ICUSTAY_ID"].rle_id().max() > 1.3 * systems.height
    flags = chart.group_by(pl.col("ITEMID") >= 220_000).agg(
        pl.col("ERROR").null_count() == pl.len()
    )
    assert dict(flags.iter_rows()) == {True: False, False: True}


def test_shares_of_rows_are_the_declared_ones(tmp_path: Path) -> None:
    settings = ExportOptions(unmapped_items=0.6, not_charted=0.2, duplicates=0.05, text_values=0.03)
    made = write_mimic3(ward(20), settings, tmp_path / "raw", quiet)
    dirt = made["dirt"]["CHARTEVENTS"]
    assert dirt["rows_used"] / dirt["rows"] == pytest.approx(0.4 / 1.05, rel=0.03)
    assert dirt["duplicates"] / dirt["rows_used"] == pytest.approx(0.05 / 0.8, rel=0.1)
    assert dirt["text_values"] / dirt["rows_used"] == pytest.approx(0.03 / 0.8, rel=0.1)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def digests(seed: int, name: str) -> dict[str, str]:
        write_mimic3(ward(6), ExportOptions(seed=seed), tmp_path / name, quiet)
        return {
            f.name: hashlib.sha256(f.read_bytes()).hexdigest()
            for f in (tmp_path / name).glob("*.gz")
        }

    first = digests(1, "a")
    assert digests(1, "b") == first
    assert digests(2, "c")["CHARTEVENTS.csv.gz"] != first["CHARTEVENTS.csv.gz"]


def test_plain_files_hold_the_same_lines(tmp_path: Path) -> None:
    write_mimic3(ward(4), ExportOptions(), tmp_path / "packed", quiet)
    write_mimic3(ward(4), ExportOptions(compress=False, truth=False), tmp_path / "plain", quiet)
    for file in (tmp_path / "packed").glob("*.csv.gz"):
        assert (
            gzip.decompress(file.read_bytes())
            == (tmp_path / "plain" / file.name.removesuffix(".gz")).read_bytes()
        )
    assert not (tmp_path / "plain" / "truth" / "events.parquet").exists()


def test_an_interrupted_writer_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(FlowsheetError, match="No space left"):
        write_mimic3(ward(4), ExportOptions(), tmp_path / "raw", stop)
    assert list(tmp_path.iterdir()) == [p for p in tmp_path.iterdir() if p.name == "home"]


def test_charted_items_are_the_catalogues_and_the_others_are_not() -> None:
    known = {(r["itemid"], r["name"]) for r in catalogue.mimic3_items().iter_rows(named=True)}
    for row in charted():
        name = next(q.variable or q.quantity for q in quantities() if q.quantity == row.quantity)
        assert {(row.carevue, name), (row.metavision, name)} <= known
    ids = set(catalogue.mimic3_items()["itemid"])
    assert all(ids.isdisjoint(free_ids(system, 90)) for system in FREE_IDS)
