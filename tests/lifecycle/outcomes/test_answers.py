"""Which answers of a stay's step count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flowsheet.errors import UsageError
from flowsheet.lifecycle.outcomes import answers as module
from flowsheet.lifecycle.outcomes.answers import choose_answers
from flowsheet.serving.answer_files import ANSWERS

START = datetime(2030, 1, 1)
"""Of the stays, in the hospital's clock, which the server's need not agree with."""
NOW = datetime(2031, 1, 1, tzinfo=UTC)


def answer(minute: int, steps: list[int], risk: float, **columns: object) -> pl.DataFrame:
    """An answer at that minute with the same risk at each of the steps."""
    filled = {
        "answered_at": NOW + timedelta(minutes=minute),
        "request_id": f"r{minute}",
        "model": "m",
        "version": 1,
        "is_shadow": False,
        "stay_id": 7,
        "subject_id": None,
        "risk": risk,
        "alert": risk >= 0.5,
        "threshold": 0.5,
        **columns,
    }
    times = [START + timedelta(hours=step) for step in steps]
    frame = pl.DataFrame({"time": times, "step": steps})
    return frame.with_columns(pl.lit(v).alias(k) for k, v in filled.items()).select(
        pl.col(name).cast(kind) for name, kind in ANSWERS.items()
    )


def choose(folder, *answers: pl.DataFrame, model: str | None = None):
    (folder / "m").mkdir(exist_ok=True)
    pl.concat(answers).sample(fraction=1, shuffle=True, seed=1).write_parquet(
        folder / "m" / "a.parquet"
    )
    return choose_answers(folder, model)


def risks(chosen) -> dict[int, float]:
    return dict(chosen.answers.select("step", "risk").iter_rows())


def test_the_last_answer_before_a_later_step_counts(tmp_path):
    chosen = choose(
        tmp_path,
        answer(0, [1], 0.1),
        answer(20, [1], 0.2),  # stands on the screen until step 2 is answered
        answer(70, [1, 2], 0.3),
        answer(80, [1, 2], 0.4),
        answer(300, [1, 2, 3, 4, 5], 0.6),
    )
    assert risks(chosen) == {1: 0.2, 2: 0.4, 3: 0.6, 4: 0.6, 5: 0.6}
    assert chosen.given.row(0) == (1, 11)
    assert chosen.last_times.row(0) == (7, START + timedelta(hours=5))


def test_a_step_that_was_never_answered_without_a_later_one_counts_by_its_first_answer(tmp_path):
    chosen = choose(
        tmp_path,
        answer(0, [3], 0.1),
        answer(10, [2, 3], 0.2),
        answer(20, [1, 2, 3], 0.3),
    )
    assert risks(chosen) == {1: 0.3, 2: 0.2, 3: 0.3}


def test_a_version_counts_by_its_own_answers_and_a_shadow_by_those_to_the_same_requests(tmp_path):
    chosen = choose(
        tmp_path,
        answer(0, [1], 0.1),
        answer(0, [1], 0.15, version=3, is_shadow=True),
        answer(20, [1], 0.2),
        answer(20, [1], 0.25, version=3, is_shadow=True),
        answer(60, [1, 2], 0.3, version=2),
        answer(0, [1], 0.9, stay_id=8),
    )
    rows = chosen.answers.select("version", "stay_id", "step", "risk").rows()
    assert rows == [(1, 7, 1, 0.2), (1, 8, 1, 0.9), (2, 7, 2, 0.3)]
    assert chosen.shadows.select("version", "step", "risk").rows() == [(3, 1, 0.25)]


def test_the_choice_does_not_depend_on_batches_of_stays(tmp_path, monkeypatch):
    parts = [
        answer(minute, [1], minute / 100, stay_id=stay) for stay in range(9) for minute in (1, 2)
    ]
    whole = choose(tmp_path, *parts)
    monkeypatch.setattr(module, "_STAYS_PER_BATCH", 2)
    again = choose(tmp_path, *parts)
    assert again.answers.equals(whole.answers)
    assert again.given.equals(whole.given)


def test_one_of_several_models_must_be_chosen(tmp_path):
    both = answer(0, [1], 0.1), answer(0, [1], 0.2, model="other")
    with pytest.raises(UsageError, match="--model"):
        choose(tmp_path, *both)
    assert choose(tmp_path, *both, model="other").answers["risk"].to_list() == [0.2]
    with pytest.raises(UsageError, match="no answers of 'othre'"):
        choose(tmp_path, *both, model="othre")
