"""Patients of PhysioNet 2019, set A: half of them the reference, the other half met later, as they are and changed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort.extract import QUARANTINE, Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.compose import compose_cohort
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.monitoring.findings import Findings, compare
from flowsheet.monitoring.performance import RISKS
from flowsheet.monitoring.profile import build_profile_sequences, implausible, profile
from flowsheet.monitoring.reference import Reference

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
PATIENTS = 2_000
TASK = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor="keep")


@pytest.fixture(scope="module")
def charts(data_dir) -> list[tuple[str, pl.DataFrame]]:
    with zipfile.ZipFile(data_dir / "physionet2019" / "training_setA.zip") as held:
        names = sorted(name for name in held.namelist() if name.endswith(".psv"))[:PATIENTS]
        return [
            (Path(n).name, pl.read_csv(held.read(n), separator="|", infer_schema=False))
            for n in names
        ]


def extract(charts, folder: Path, change=None) -> Extract:
    """What ingest makes of the charts; ``change`` is done to the text of each."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for name, chart in charts:
        (chart.with_columns(change) if change is not None else chart).write_csv(
            raw / name, separator="|"
        )
    config = compose_cohort(
        "physionet2019", [f"cohort.path={raw}", "cohort.quarantine.max_share=0.5"]
    )
    return ingest(make_source(config), config, folder / "extract", lambda line: None)


def observed(made: Extract) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Profile, and risks that know nothing."""
    tables, known = made.tables(), made.manifest.variables
    sequences = build_profile_sequences(
        tables, TASK, FeaturesConfig(name="f"), known, (), {"sex": ["F"], "unit": []}
    )
    stay = sequences.row_stay
    said = {
        "stay_id": sequences.stay_id[stay], "subject_id": sequences.subject_id[stay],
        "risk": np.random.default_rng(0).uniform(0.01, 0.05, sequences.rows), "y": sequences.y,
        "scored": sequences.scored,
    }  # fmt: skip
    file = made.path / "quarantine.parquet"
    aside = pl.read_parquet(file) if file.exists() else pl.DataFrame(schema=QUARANTINE)
    lines = pl.concat([profile(sequences), implausible(aside, tables.stays, known)])
    return lines, pl.DataFrame(said, schema=RISKS)


@pytest.fixture(scope="module")
def reference(charts, tmp_path_factory) -> Reference:
    return Reference.of(*observed(extract(charts[::2], tmp_path_factory.mktemp("then"))), "test")


@pytest.fixture
def met(charts, reference, tmp_path, config):
    def compared(change=None) -> Findings:
        return compare(reference, *observed(extract(charts[1::2], tmp_path, change)), config)

    return compared


def names(found: Findings) -> set[tuple[str, str]]:
    return {(flag.kind, flag.of) for flag in found.flags}


def number(column: str, change) -> pl.Expr:
    """A change of a column's numbers, kept as text; NaN stays NaN."""
    return change(pl.col(column).cast(pl.Float64)).cast(pl.String).alias(column)


def test_other_patients_are_quiet(met):
    found = met()
    assert found.flags == ()
    assert found.tests > 50


def test_a_shifted_variable_is_flagged(met):
    assert names(met(number("HR", lambda v: v + 6))) == {("value", "hr")}


def test_fahrenheit_is_named_though_the_contract_sets_it_aside(met):
    found = met(number("Temp", lambda v: v * 1.8 + 32))
    flag = next(f for f in found.flags if (f.kind, f.of) == ("value", "temp"))
    assert names(found) == {("value", "temp"), ("presence", "temp")}
    assert flag.unit == "degF"
    assert flag.unit_share > 0.95


def test_another_laboratory_s_unit_is_named(met):
    (flag,) = met(number("Glucose", lambda v: v / 18.016)).flags
    assert (flag.of, flag.unit) == ("glu", "mmol/L")


def test_doubled_missingness_is_flagged(met):
    """A tenth of the hours lack a heart rate; now a fifth does."""
    lost = pl.int_range(pl.len()).hash(seed=1) % 10 == 0
    found = met(pl.when(lost).then(pl.lit("NaN")).otherwise("HR").alias("HR"))
    assert names(found) == {("presence", "hr")}
    (flag,) = found.flags
    assert (1 - flag.now) / (1 - flag.then) == pytest.approx(2, abs=0.3)
