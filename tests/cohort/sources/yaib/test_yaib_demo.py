"""YAIB's open sepsis cohort from the MIMIC demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import EPOCH
from flowsheet.compose import compose_cohort
from flowsheet.testing.sources import SourceConformance
from tests.cohort.sources.yaib.conftest import build_hourly, open_source

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def path(data_dir: Path) -> Path:
    return data_dir / "yaib" / "sepsis_mimic_demo"


@pytest.fixture(scope="module")
def extract(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Extract:
    config = compose_cohort("yaib", [f"cohort.path={path}"])
    target = tmp_path_factory.mktemp("yaib") / "out"
    return ingest(make_source(config), config, target, lambda line: None)


def test_the_events_are_the_values_that_are_not_quarantined(path: Path, extract: Extract):
    dyn = pl.read_parquet(path / "dyn.parquet")
    long = dyn.unpivot(index=["stay_id", "time"], variable_name="variable").drop_nulls("value")
    end_of_hour = pl.lit(EPOCH) + pl.col("time") + pl.duration(hours=1)
    values = long.select(
        pl.col("stay_id").cast(pl.Int64),
        end_of_hour.cast(pl.Datetime("us")).alias("time"),
        "variable",
        "value",
    )
    events = extract.tables().events.drop("known_at")
    keys = ["stay_id", "time", "variable"]
    quarantined = values.join(events, on=keys, how="anti")
    expected = values.join(quarantined, on=keys, how="anti")
    assert events.sort(keys).equals(expected.sort(keys))
    assert quarantined.height == sum(entry.rows for entry in extract.manifest.quarantined)
    assert quarantined.height < 0.001 * values.height
    assert extract.manifest.exclusions == ()


def test_the_targets_are_the_labels_of_the_cohort(path: Path, extract: Extract):
    sequences = build_hourly(extract.tables(), extract.manifest.variables)
    labels = pl.read_parquet(path / "outc.parquet").sort("stay_id", "time")["label"].to_numpy()
    np.testing.assert_array_equal(sequences.y, labels)
    assert extract.manifest.counts["stays"] == 115
    assert sequences.rows == 7_707
    assert sequences.y.sum() == 13
    assert sequences.scored.all()


def test_the_cohort_passes_the_conformance_tests(path: Path, tmp_path: Path):
    suite = SourceConformance()
    suite.make_source = lambda folder: open_source(path)  # type: ignore[method-assign]
    suite.test_batches_have_the_columns_and_types_of_the_contract(tmp_path)
    suite.test_stays_ascend_within_and_across_batches(tmp_path)
    suite.test_only_known_concepts_are_declared_and_returned(tmp_path)
