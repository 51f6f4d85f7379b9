"""PhysioNet 2019, set A: half of the patients are the reference, the others are monitored."""

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
from flowsheet.monitoring.findings import Findings, find_changes
from flowsheet.monitoring.performance import RISK_SCHEMA
from flowsheet.monitoring.profile import (
    build_profile_sequences,
    compute_profile,
    profile_implausible_values,
)
from flowsheet.monitoring.reference import Reference

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
PATIENTS = 2_000
TASK = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor="keep")


@pytest.fixture(scope="module")
def records(data_dir) -> list[tuple[str, pl.DataFrame]]:
    """(file name, table of text) of each patient."""
    with zipfile.ZipFile(data_dir / "physionet2019" / "training_setA.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".psv"))[:PATIENTS]
        return [
            (Path(name).name, pl.read_csv(archive.read(name), separator="|", infer_schema=False))
            for name in names
        ]


def make_extract(records, folder: Path, change: pl.Expr | None = None) -> Extract:
    """Ingest the records, each of them after ``change``."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for name, record in records:
        changed = record.with_columns(change) if change is not None else record
        changed.write_csv(raw / name, separator="|")
    overrides = [f"cohort.path={raw}", "cohort.quarantine.max_share=0.5"]
    config = compose_cohort("physionet2019", overrides)
    return ingest(make_source(config), config, folder / "extract", lambda line: None)


def collect_data(extract: Extract) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The extract's profile, and uninformative risks."""
    tables, variables = extract.tables(), extract.manifest.variables
    sequences = build_profile_sequences(
        tables, TASK, FeaturesConfig(name="f"), variables, (), {"sex": ["F"], "unit": []}
    )
    stay = sequences.row_stay
    risks = {
        "stay_id": sequences.stay_id[stay],
        "subject_id": sequences.subject_id[stay],
        "risk": np.random.default_rng(0).uniform(0.01, 0.05, sequences.rows),
        "y": sequences.y,
        "scored": sequences.scored,
        "weight": np.ones(sequences.rows),
    }
    file = extract.path / "quarantine.parquet"
    quarantine = pl.read_parquet(file) if file.exists() else pl.DataFrame(schema=QUARANTINE)
    implausible = profile_implausible_values(quarantine, tables.stays, variables)
    profile = pl.concat([compute_profile(sequences), implausible])
    return profile, pl.DataFrame(risks, schema=RISK_SCHEMA)


@pytest.fixture(scope="module")
def reference(records, tmp_path_factory) -> Reference:
    extract = make_extract(records[::2], tmp_path_factory.mktemp("reference"))
    return Reference.from_profile(*collect_data(extract), "test")


@pytest.fixture
def compare_others(records, reference, tmp_path, config):
    """Compares the other patients, each after a change, with the reference."""

    def compare(change: pl.Expr | None = None) -> Findings:
        extract = make_extract(records[1::2], tmp_path, change)
        return find_changes(reference, *collect_data(extract), config)

    return compare


def flagged_properties(findings: Findings) -> set[tuple[str, str]]:
    return {(flag.kind, flag.name) for flag in findings.flags}


def change_numbers(column: str, change) -> pl.Expr:
    """Change a column of numbers that are stored as text; NaN stays NaN."""
    return change(pl.col(column).cast(pl.Float64)).cast(pl.String).alias(column)


def test_other_patients_are_not_flagged(compare_others):
    findings = compare_others()
    assert findings.flags == ()
    assert findings.tests > 50


def test_a_shifted_variable_is_flagged(compare_others):
    findings = compare_others(change_numbers("HR", lambda value: value + 6))
    assert flagged_properties(findings) == {("measured_value", "hr")}


def test_fahrenheit_is_identified_although_ingestion_quarantines_it(compare_others):
    findings = compare_others(change_numbers("Temp", lambda value: value * 1.8 + 32))
    assert flagged_properties(findings) == {
        ("measured_value", "temp"),
        ("measurement_rate", "temp"),
    }
    flag = next(f for f in findings.flags if f.kind == "measured_value")
    assert flag.suspected_unit == "degF"
    assert flag.suspected_unit_share > 0.95


def test_the_unit_of_another_laboratory_is_identified(compare_others):
    (flag,) = compare_others(change_numbers("Glucose", lambda value: value / 18.016)).flags
    assert (flag.name, flag.suspected_unit) == ("glu", "mmol/L")


def test_doubled_missingness_is_flagged(compare_others):
    """A tenth of the hours have no heart rate; a further tenth is removed."""
    is_removed = pl.int_range(pl.len()).hash(seed=1) % 10 == 0
    findings = compare_others(pl.when(is_removed).then(pl.lit("NaN")).otherwise("HR").alias("HR"))
    assert flagged_properties(findings) == {("measurement_rate", "hr")}
    (flag,) = findings.flags
    missing_ratio = (1 - flag.current_value) / (1 - flag.reference_value)
    assert missing_ratio == pytest.approx(2, abs=0.3)
