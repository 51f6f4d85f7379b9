"""Cohorts of YAIB with one label a stay: mortality."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.schema import EPOCH
from flowsheet.cohort.sources.yaib import Yaib, YaibOptions
from flowsheet.config import TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.windows.grid import Grid
from flowsheet.windows.task import build_targets

HOURS = 25
MORTALITY = TaskConfig(
    name="m", response="death", target="onset", step_hours=1, at_hours=24, horizon=None
)


def write_cohort(folder: Path) -> Path:
    """Three stays of 25 hours; the second dies."""
    folder.mkdir()
    stays = [1, 2, 3]
    hours = {"stay_id": [s for s in stays for _ in range(HOURS)], "time": [*range(HOURS)] * 3}
    pl.DataFrame(hours).with_columns(hr=80.0, map=70.0).write_parquet(folder / "dyn.parquet")
    labels = pl.DataFrame({"stay_id": stays, "label": [0, 1, 0]})
    labels.write_parquet(folder / "outc.parquet")
    sta = pl.DataFrame({"stay_id": stays, "sex": ["Male", "Female", "Male"]})
    sta = sta.with_columns(age=60.0, height=170.0, weight=70.0)
    sta.write_parquet(folder / "sta.parquet")
    return folder


def test_the_label_is_an_event_after_the_record(tmp_path: Path):
    source = Yaib(write_cohort(tmp_path / "m"), YaibOptions(response="death"))
    (batch,) = source.batches()
    assert source.responses == ("death",)
    assert batch.defects.is_empty()
    row = batch.episodes.row(0, named=True)
    assert (batch.episodes.height, row["stay_id"], row["response"]) == (1, 2, "death")
    assert (row["onset"] - EPOCH).total_seconds() == 26 * 3600
    targets = build_targets(Grid.from_stays(batch.stays, MORTALITY), batch.episodes, MORTALITY)
    assert targets.scored.sum() == 3
    assert targets.y[targets.scored].tolist() == [0, 1, 0]


def test_what_is_labelled_must_be_said(tmp_path: Path):
    with pytest.raises(CheckFailed, match="does not say of what") as caught:
        Yaib(write_cohort(tmp_path / "m"), YaibOptions())
    assert "response=death" in caught.value.todo


def test_a_second_label_of_a_stay_sets_it_aside(tmp_path: Path):
    folder = write_cohort(tmp_path / "m")
    labels = pl.read_parquet(folder / "outc.parquet")
    pl.concat([labels, labels[:1]]).write_parquet(folder / "outc.parquet")
    (batch,) = Yaib(folder, YaibOptions(response="death")).batches()
    assert batch.stays["stay_id"].to_list() == [2, 3]
    assert batch.defects["rule"].to_list() == ["duplicate_hour"]
