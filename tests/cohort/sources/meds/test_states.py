"""A ventilator or a dialysis runs from the code of its start to that of its end."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.schema import EPOCH
from flowsheet.cohort.sources.meds.codes import CodeMapping
from flowsheet.cohort.sources.meds.measurements import MEASURED
from flowsheet.cohort.sources.meds.states import repeat_states
from flowsheet.errors import UsageError

START, END, OTHER_OFF = 0, 1, 2
"""Lines of the mapping: a start, its end, and another code that means 0."""
STAYS = pl.DataFrame({"stay_id": [7], "discharged_at": [EPOCH + timedelta(days=20)]})


def repeat(
    rows: list[tuple[int, int]], stays: pl.DataFrame = STAYS, counts: Counter[str] | None = None
) -> list[tuple[float, float]]:
    """(hour, value) of the states out of rows (hour, line of the mapping)."""
    measured = pl.DataFrame(
        [
            {
                "stay_id": 7,
                "time": EPOCH + timedelta(hours=hour),
                "known_at": EPOCH + timedelta(hours=hour),
                "variable": "vent",
                "value": float(line == START),
                "mapping_row": line,
                "end_row": END if line == START else None,
                "may_be_venous": False,
            }
            for hour, line in rows
        ],
        MEASURED,
    )
    states = repeat_states(measured, stays, Counter() if counts is None else counts)
    hour = (pl.col("time") - EPOCH).dt.total_seconds() / 3600
    assert states.filter(pl.col("known_at") != pl.col("time")).is_empty()
    return sorted(states.select(hour, "value").rows())


def on(*hours: int) -> list[tuple[float, float]]:
    return [(float(hour), 1.0) for hour in hours]


def off(*hours: int) -> list[tuple[float, float]]:
    return [(float(hour), 0.0) for hour in hours]


def test_a_state_lasts_until_its_end():
    assert repeat([(0, START), (13, END)]) == on(0, 4, 8, 12) + off(13)
    assert repeat([(0, START), (3, END)]) == on(0) + off(3)


def test_an_end_and_a_start_at_one_time_are_the_next_state():
    states = repeat([(0, START), (6, END), (6, START), (11, END)])
    assert states == on(0, 4) + off(6) + on(6, 10) + off(11)


def test_a_state_that_ends_when_it_starts_does_not_last():
    assert repeat([(0, START), (0, END)]) == off(0) + on(0)


def test_without_an_end_it_lasts_until_the_discharge():
    counts: Counter[str] = Counter()
    soon = STAYS.with_columns(discharged_at=EPOCH + timedelta(hours=10))
    assert repeat([(0, START)], soon, counts) == on(0, 4, 8)
    assert counts == {"starts without an end: until the discharge (rows kept)": 1}
    assert repeat([(0, START)])[-1] == (20 * 24.0 - 4, 1.0)


def test_an_extubation_ends_it():
    assert repeat([(0, START), (9, OTHER_OFF), (20, END)]) == on(0, 4, 8) + off(9, 20)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([START, END, OTHER_OFF])), max_size=6),
    st.integers(0, 40),
)
def test_what_comes_later_changes_nothing_before(rows: list[tuple[int, int]], now: int):
    known = [row for row in rows if row[0] <= now]

    def until_now(states: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [state for state in states if state[0] <= now]

    assert until_now(repeat(rows)) == until_now(repeat(known))


def test_an_end_that_is_not_in_the_mapping_is_refused(tmp_path: Path):
    file = tmp_path / "codes.csv"
    line = "VENT_ON,variable,vent,running,VENT_OFF"
    file.write_text(f"code,kind,name,convert,ended_by\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"no line of kind variable with the code 'VENT_OFF'") as e:
        CodeMapping.read(str(file))
    assert "line 2, column ended_by" in str(e.value)
