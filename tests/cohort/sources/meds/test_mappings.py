"""Which shipped mapping a data set is read with, and what it makes of its codes."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.sources.meds.codes import CodeMapping
from flowsheet.cohort.sources.meds.mappings import SHIPPED, choose_mapping
from flowsheet.errors import CheckFailed, UsageError
from tests.cohort.sources.meds.conftest import (
    STAY_CODES,
    Row,
    at,
    make_row,
    make_rows,
    run_ingest,
    write_data_set,
    write_mapping,
)

MIMIC = ["ICU_ADMISSION//MICU", "ICU_DISCHARGE//MICU", "LAB//220045//bpm"]
OPENICU = ["heart_rate//bpm", "creatinine//mg/dL"]


def choose(codes: list[str], name: str = "auto", **metadata: str) -> tuple[str, str]:
    counts = pl.DataFrame({"code": codes}).with_columns(rows=pl.lit(1, pl.Int64))
    chosen = choose_mapping(name, metadata, counts)
    return chosen.name, chosen.reason


@pytest.mark.parametrize(
    ("codes", "metadata", "name", "reason"),
    [
        (MIMIC, {}, "mimic", "the codes that occur"),
        (OPENICU, {}, "openicu", "the codes that occur"),
        (MIMIC, {"etl_name": "MIMIC_IV_MEDS", "etl_version": "0.1.2"}, "mimic", "0.1.2 in meta"),
        (OPENICU, {"etl_name": "OpenICU", "etl_version": "1.0.0"}, "openicu", "OpenICU 1.0.0 in"),
        ([*MIMIC, *OPENICU], {"etl_name": "OpenICU"}, "openicu", "in metadata/dataset.json"),
        (MIMIC, {"etl_name": "OpenICU"}, "mimic", "the codes that occur, written by OpenICU"),
    ],
)
def test_the_metadata_choose_where_they_fit_the_codes_and_the_codes_otherwise(
    codes: list[str], metadata: dict[str, str], name: str, reason: str
):
    chosen, why = choose(codes, **metadata)
    assert chosen == name
    assert reason in why


def test_codes_that_fit_no_mapping_are_named():
    codes = ["VITALS//HR", "ICU_ADMISSION//A", "GENDER//F"]
    with pytest.raises(CheckFailed, match=r"eICU_MEDS 2: 'GENDER//F' \(1\), .*'VITALS//HR'") as e:
        choose(codes, etl_name="eICU_MEDS", etl_version="2")
    assert "mimic, openicu" in e.value.todo


def test_a_mapping_may_be_forced_but_must_know_a_code(tmp_path: Path):
    assert choose([*MIMIC, *OPENICU], "openicu")[0] == "openicu"
    with pytest.raises(CheckFailed, match=r"in the mapping openicu: 'LAB//220045//bpm' \(1\)"):
        choose(MIMIC[2:], "openicu")
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        choose(MIMIC, str(tmp_path / "nowhere.csv"))


def test_the_choice_is_printed_and_kept_in_the_manifest(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows())
    metadata = {"etl_name": "MIMIC_IV_MEDS", "etl_version": "0.1.2", "dataset_name": "MIMIC-IV"}
    (root / "metadata" / "dataset.json").write_text(json.dumps(metadata), encoding="utf-8")
    choice = run_ingest(root, tmp_path / "out").manifest.source.choices["mapping"]
    assert choice.startswith("mimic (by MIMIC_IV_MEDS 0.1.2 MIMIC-IV in metadata/dataset.json; ")
    assert "stamped when they were stored" in choice


def make_draws() -> list[Row]:
    """Two draws of a lactate; the result of the second comes before that of the first is read."""
    return [
        make_row(1, "2150-03-01T12:00:00", "LAB//SPECIMEN_COLLECTED//50813"),
        make_row(1, "2150-03-01T13:30:00", "LAB//RESULT//50813//mmol/L", 3.3),
        make_row(1, "2150-03-01T18:00:00", "LAB//SPECIMEN_COLLECTED//50813"),
        make_row(1, "2150-03-01T18:00:00", "LAB//SPECIMEN_COLLECTED//50912"),
        make_row(1, "2150-03-01T18:20:00", "LAB//RESULT//50813//mmol/L", 4.4),
    ]


def test_a_result_stamped_when_stored_is_true_at_its_draw_and_known_when_stored(tmp_path: Path):
    root = write_data_set(tmp_path / "raw", make_rows() + make_draws())
    lactate = (
        run_ingest(root, tmp_path / "out").tables().events.filter(stay_id=499, variable="lact")
    )
    rows = lactate.select("time", "known_at", "value").sort("time").rows()
    assert rows == [
        (at("2150-03-01T12:00"), at("2150-03-01T13:30"), 3.3),
        (at("2150-03-01T18:00"), at("2150-03-01T18:20"), 4.4),
        (at("2150-03-02T08:00"), at("2150-03-02T08:00"), 2.1),
    ]


def test_a_result_stamped_at_the_draw_is_known_after_the_delay_of_its_test(tmp_path: Path):
    rows = [*make_rows(), make_row(1, "2150-03-01T12:00:00", "LAB//50912//mg/dL", 1.1)]
    root = write_data_set(tmp_path / "raw", rows)
    extract = run_ingest(root, tmp_path / "out")
    (creatinine,) = extract.tables().events.filter(variable="crea").to_dicts()
    hours = (creatinine["known_at"] - creatinine["time"]).total_seconds() / 3600
    assert hours == pytest.approx(3.86)


@pytest.mark.parametrize("item", ["225401", "225437", "225444", "225451", "225454"])
def test_a_culture_that_is_charted_as_a_procedure_counts(tmp_path: Path, item: str):
    """Blood, cerebrospinal fluid, all, sputum and urine."""
    rows = make_rows()
    rows += [
        make_row(1, "2150-03-01T11:00:00", f"PROCEDURE//START//{item}"),
        make_row(1, "2150-03-01T11:01:00", f"PROCEDURE//END//{item}"),
    ]
    for day in ("01", "02"):
        rows += [
            make_row(1, f"2150-03-{day}T12:00:00", "INFUSION_START//225798"),
            make_row(1, f"2150-03-{day}T13:00:00", "INFUSION_END//225798", 1.0),
        ]
    root = write_data_set(tmp_path / "raw", rows)
    counts = dict(run_ingest(root, tmp_path / "out", sepsis3={}).manifest.source_counts)
    assert counts["cultures"] == 1
    assert counts["stays with suspected infection"] == 1


def test_a_draw_must_name_a_line_of_results(tmp_path: Path):
    file = write_mapping(tmp_path, [*STAY_CODES, "DRAW//1,draw,RESULT//1//*,,,"])
    with pytest.raises(UsageError, match=r"line 4, column name"):
        CodeMapping.read(str(file))


@pytest.mark.parametrize("name", [mapping.name for mapping in SHIPPED])
def test_the_shipped_mappings_are_valid_and_have_the_vital_signs(name: str):
    assert {"hr", "map", "sbp", "o2sat", "resp", "temp"} <= set(
        CodeMapping.read(name).names("variable")
    )
