"""Parts of records of other releases are read, or refused in words."""

from __future__ import annotations

import pytest

from flowsheet.config.task import TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.tracking.run_records import RunRecord


def record_of(task: dict[str, object]) -> RunRecord:
    return RunRecord(
        run_id="0123456789abcdef",
        experiment="demo",
        models=("lstm",),
        label="01234567",
        config={"task": task},
        environment={},
        params={},
        tags={},
    )


def test_a_recorded_part_is_read():
    task = TaskConfig(name="next_day")
    assert record_of(task.model_dump()).read_config("task", TaskConfig) == task


def test_a_part_that_another_release_recorded_is_refused_in_words():
    record = record_of({"horizon": 1, "forecast": "tomorrow"})
    with pytest.raises(CheckFailed, match=r"another release recorded.*'forecast'") as error:
        record.read_config("task", TaskConfig)
    assert error.value.where == "run 0123456789abcdef, task"
