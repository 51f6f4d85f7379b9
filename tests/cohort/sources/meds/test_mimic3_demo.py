"""The MIMIC-III demo, read by way of MEDS and directly."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract, check_extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.meds.codes import CodeMapping
from flowsheet.compose import compose_cohort
from flowsheet.testing import meds

pytestmark = pytest.mark.realdata

NOT_COMPARED = ("vent", "rrt", "comfort_measures", "gcs", "vgcs", "po2", "sao2", "weight")
"""The direct source reads them from words or from several rows; a mapping of codes cannot."""


class Extracts(NamedTuple):
    by_meds: Extract
    direct: Extract


def run_ingest(cohort: str, target: Path, overrides: list[str]) -> Extract:
    config = compose_cohort(cohort, overrides)
    return ingest(make_source(config), config, target, lambda line: None)


@pytest.fixture(scope="module")
def extracts(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Extracts:
    raw = data_dir / "mimic3-demo"
    folder = tmp_path_factory.mktemp("meds")
    root = meds.convert_mimic3(raw, folder / "raw")
    options = ["cohort.options.known_at=storetime", "cohort.options.sepsis3={}"]
    return Extracts(
        by_meds=run_ingest("meds", folder / "meds", [f"cohort.path={root}", *options]),
        direct=run_ingest(
            "mimic3",
            folder / "mimic3",
            [f"cohort.path={raw}", "cohort.options.lab_delay_hours=2"],
        ),
    )


def find_differences(
    one: pl.DataFrame, other: pl.DataFrame, key: list[str], value: str
) -> pl.DataFrame:
    """Rows that are only in one of the tables, or have another value there."""
    pairs = one.join(other, on=key, how="full", suffix="_other", coalesce=True, nulls_equal=True)
    a = pl.col(value)
    b = pl.col(f"{value}_other")
    is_close = ((a - b).abs() <= 2e-6 * b.abs() + 2e-6) | (a.is_null() & b.is_null())
    return pairs.filter(~is_close.fill_null(value=False))


def test_the_stays_are_equal(extracts: Extracts):
    by_meds = extracts.by_meds.tables().stays
    direct = extracts.direct.tables().stays
    assert by_meds.height == 136
    columns = ["stay_id", "subject_id", "admitted_at", "sex", "unit"]
    shared = by_meds.join(direct, on="stay_id", how="semi")
    assert shared.select(columns).equals(direct.select(columns))
    # In MEDS, a death at midnight is a death at some time of that day.
    is_other = shared["discharged_at"] != direct["discharged_at"]
    assert (direct.filter(is_other)["died_at"].dt.time() == time(0)).all()
    assert is_other.sum() <= 1
    assert (shared["age"] - direct["age"]).abs().max() < 1e-6
    # The direct source also knows when the patient came to the emergency department.
    assert (shared["hospital_admitted_at"] >= direct["hospital_admitted_at"]).all()


def test_the_events_are_equal(extracts: Extracts):
    admissions = extracts.direct.tables().stays.select("stay_id", "admitted_at")
    mapped = CodeMapping.read("mimic").names("variable")
    is_compared = pl.col("variable").is_in(sorted({*mapped} - {*NOT_COMPARED}))
    by_meds, direct = (
        extract.tables().events.filter(is_compared).join(admissions, on="stay_id")
        for extract in extracts
    )
    key = ["stay_id", "time", "known_at", "variable"]
    is_in_stay = pl.col("time") >= pl.col("admitted_at")
    differences = find_differences(
        by_meds.filter(is_in_stay), direct.filter(is_in_stay), key, "value"
    )
    assert direct.filter(is_in_stay).height > 100_000
    assert differences.is_empty(), str(differences.group_by("variable").len())
    before = direct.filter(~is_in_stay)
    shared = by_meds.join(before, on=key, how="semi")
    assert find_differences(shared, before, key, "value").is_empty()


def test_the_infusions_are_equal(extracts: Extracts):
    by_meds = extracts.by_meds.tables().treatments
    direct = extracts.direct.tables().treatments
    drugs = ["norepinephrine", "phenylephrine", "insulin", "heparin", "fentanyl", "midazolam"]
    assert set(drugs) <= set(CodeMapping.read("mimic").names("drug_start"))
    metavision = extracts.direct.tables().stays.filter(site="metavision")["stay_id"].implode()
    is_infusion = (
        (pl.col("end") > pl.col("start"))
        & pl.col("drug").is_in(drugs)
        & pl.col("stay_id").is_in(metavision)
    )
    key = ["stay_id", "drug", "start", "end", "known_at"]
    assert by_meds.filter(is_infusion).height > 500
    differences = find_differences(
        by_meds.filter(is_infusion), direct.filter(is_infusion), key, "dose"
    )
    assert differences.is_empty(), str(differences)


def test_the_extract_keeps_the_contract_and_has_episodes(extracts: Extracts):
    assert check_extract(extracts.by_meds.path).is_empty()
    stays = extracts.direct.tables().stays
    metavision = stays.filter(site="metavision")["stay_id"]
    # the antibiotics of CareVue are orders, which MEDS does not contain
    episodes = extracts.by_meds.tables().episodes
    assert 0 < episodes["stay_id"].n_unique() <= len(metavision)
    assert episodes["stay_id"].is_in(metavision.implode()).all()
