"""YAIB cohorts as a source: the meaning of hours, values and labels."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EPOCH
from flowsheet.cohort.sources import yaib as module
from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.yaib import COLUMNS
from flowsheet.testing import yaib
from flowsheet.testing.sources import SourceConformance
from tests.cohort.sources.yaib.conftest import (
    build_hourly,
    change_columns,
    change_row,
    open_source,
    run_ingest,
)


class TestYaib(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return open_source(yaib.write_frames(folder, yaib.make_frames()))

    def make_shuffled(self, folder: Path) -> Source:
        shuffled = {
            name: frame.sample(fraction=1, shuffle=True, seed=1)
            for name, frame in yaib.make_frames().items()
        }
        return open_source(yaib.write_frames(folder, shuffled))

    def make_changed(self, folder: Path) -> Source:
        frames = change_row(yaib.make_frames(), "dyn", 3, hr=61.5)
        return open_source(yaib.write_frames(folder, frames))


class TestSmallBatches(TestYaib):
    @pytest.fixture(autouse=True)
    def _use_small_batches(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "STAYS_PER_BATCH", 1)


def test_a_value_is_true_and_known_at_the_end_of_its_hour(tmp_path: Path):
    frames = change_row(yaib.make_frames(), "dyn", 3, hr=61.5)
    tables = run_ingest(yaib.write_frames(tmp_path / "raw", frames), tmp_path / "out").tables()
    (event,) = tables.events.filter(pl.col("value") == 61.5).rows()
    end_of_hour = EPOCH + timedelta(hours=4)
    assert event == (11, end_of_hour, end_of_hour, "hr", 61.5)


def test_the_times_and_demographics_of_a_stay(tmp_path: Path):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    stays = run_ingest(raw, tmp_path / "out").tables().stays
    stay = stays.row(0, named=True)
    assert (stay["admitted_at"], stay["discharged_at"]) == (EPOCH, EPOCH + timedelta(hours=12))
    assert (stay["age"], stay["sex"]) == (60.0, "F")
    assert (stay["height_cm"], stay["weight_kg"]) == (None, 80.5)
    assert stays["stay_id"].to_list() == [11, 12, 13, 14]
    assert stays["subject_id"].to_list() == [11, 12, 13, 14]


def test_onset_is_six_hours_after_the_first_label(tmp_path: Path):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    onset = EPOCH + timedelta(hours=yaib.ONSET + 1)
    known_at = onset + timedelta(hours=192)
    episodes = run_ingest(raw, tmp_path / "out").tables().episodes
    assert episodes.rows() == [(12, "sepsis", onset, None, known_at, None)]


def test_the_lead_and_the_delay_of_the_label_are_options(tmp_path: Path):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    (batch,) = open_source(raw, label_known_after_hours=1, label_lead_hours=4).batches()
    onset = EPOCH + timedelta(hours=yaib.ONSET + 1 - 2)
    assert batch.episodes.rows() == [(12, "sepsis", onset, None, onset + timedelta(hours=1), None)]


def test_the_targets_of_an_hourly_task_are_the_labels(tmp_path: Path):
    frames = yaib.make_frames()
    extract = run_ingest(yaib.write_frames(tmp_path / "raw", frames), tmp_path / "out")
    sequences = build_hourly(extract.tables())
    np.testing.assert_array_equal(sequences.y, frames["outc"]["label"].to_numpy())
    assert sequences.scored.all()
    assert not np.nan_to_num(sequences.history).any()


def test_null_and_nan_are_both_missing_values(tmp_path: Path):
    nulls = yaib.make_frames()
    nans = change_columns(nulls, "dyn", temp=pl.col("temp").fill_null(float("nan")))
    one = run_ingest(yaib.write_frames(tmp_path / "nulls", nulls), tmp_path / "a")
    other = run_ingest(yaib.write_frames(tmp_path / "nans", nans), tmp_path / "b")
    assert other.fingerprint == one.fingerprint
    values = sum(nulls["dyn"][name].count() for name in ("hr", "temp", "urine"))
    assert one.manifest.counts["events"] == values


def test_hours_and_labels_may_be_numbers(tmp_path: Path):
    durations = yaib.make_frames()
    hour = pl.col("time").dt.total_hours()
    numbers = change_columns(durations, "dyn", time=hour)
    label = pl.col("label").cast(pl.Int32)
    numbers = change_columns(numbers, "outc", time=hour.cast(pl.Float64), label=label)
    one = run_ingest(yaib.write_frames(tmp_path / "durations", durations), tmp_path / "a")
    other = run_ingest(yaib.write_frames(tmp_path / "numbers", numbers), tmp_path / "b")
    assert other.fingerprint == one.fingerprint


def test_unknown_columns_are_named_and_their_values_counted(tmp_path: Path):
    frames = yaib.make_frames()
    mood = pl.when(pl.col("hr") > 80).then(1.0)
    changed = change_columns(frames, "dyn", mood=mood, tgcs=pl.lit(15.0))
    changed = change_columns(changed, "sta", ethnic=pl.lit("other"))
    manifest = run_ingest(yaib.write_frames(tmp_path / "raw", changed), tmp_path / "out").manifest
    moods = (frames["dyn"]["hr"] > 80).sum()
    assert dict(manifest.exclusions) == {
        "dyn.parquet: the column 'mood' is not a known variable": moods,
        "sta.parquet: the column 'ethnic' is not a known variable": 4,
    }
    assert manifest.variables == ("hr", "temp", "urine", "gcs")


def test_a_column_of_subjects_is_used(tmp_path: Path):
    subjects = pl.lit(pl.Series([7, 7, 8, 9]))
    frames = change_columns(yaib.make_frames(), "sta", subject_id=subjects)
    manifest = run_ingest(yaib.write_frames(tmp_path / "raw", frames), tmp_path / "out").manifest
    assert (manifest.counts["subjects"], manifest.counts["stays"]) == (3, 4)
    assert manifest.exclusions == ()


def test_all_columns_are_variables_of_the_catalogue():
    assert set(COLUMNS.values()) <= set(catalogue.variables())


@pytest.mark.parametrize(("value", "rule"), [(5000.0, "plausible_range"), (float("inf"), "finite")])
def test_an_invalid_measurement_is_quarantined_alone(tmp_path: Path, value: float, rule: str):
    valid = yaib.make_frames()
    invalid = change_row(valid, "dyn", 3, hr=value)
    before = run_ingest(yaib.write_frames(tmp_path / "valid", valid), tmp_path / "a").manifest
    after = run_ingest(yaib.write_frames(tmp_path / "invalid", invalid), tmp_path / "b").manifest
    quarantined = [(entry.table, entry.rule, entry.rows) for entry in after.quarantined]
    assert quarantined == [("events", rule, 1)]
    assert after.counts == before.counts | {"events": before.counts["events"] - 1}
