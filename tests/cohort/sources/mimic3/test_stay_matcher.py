"""Rows are matched to the stay in whose window they lie."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.stay_matcher import IdIndex, StayMatcher
from flowsheet.cohort.engine.stays import Stays, make_windows
from flowsheet.cohort.sources.mimic3 import Mimic3Options

STAYS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=6
)
"""(subject, first hour, hours)."""
ROWS = st.lists(st.tuples(st.integers(1, 4), st.integers(-30, 130)), min_size=1, max_size=12)
"""(subject, hour)."""


def at_hour(hour: int) -> datetime:
    return datetime(2150, 1, 10) + timedelta(hours=hour)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stays=STAYS, rows=ROWS)
def test_a_row_is_matched_to_the_one_stay_in_whose_window_it_lies(
    stays: list[tuple[int, int, int]], rows: list[tuple[int, int]]
):
    """Compared with a search through all windows."""
    icu_stays = pl.DataFrame(
        [
            (subject, 1000 + i, at_hour(start), at_hour(start + hours))
            for i, (subject, start, hours) in enumerate(stays)
        ],
        schema=["subject_id", "stay_id", "admitted_at", "discharged_at"],
        orient="row",
    )
    windows = make_windows(icu_stays, Mimic3Options(before_hours=24, after_hours=2))
    has_successor = windows["subject_id"] == windows["subject_id"].shift(-1)
    assert (windows["start"].shift(-1) > windows["end"]).filter(has_successor).all()
    stay_ids = np.sort(icu_stays["stay_id"].to_numpy())
    table = icu_stays.select("stay_id").sort("stay_id")
    matcher = StayMatcher(Stays(table, stay_ids, {}, pl.DataFrame(), windows, pl.DataFrame()))
    raw_rows = pl.DataFrame(
        [(subject, at_hour(hour)) for subject, hour in rows],
        schema=["subject_id", "time"],
        orient="row",
    )
    matched = matcher.match(raw_rows.with_row_index("n"), "labevents", "time", ExclusionLog())
    expected = {
        n: stay_id
        for n, (subject, time) in enumerate(raw_rows.rows())
        for window_subject, stay_id, start, end in windows.rows()
        if window_subject == subject and start <= time <= end
    }
    stay_id = pl.Series(stay_ids)[matched["stay"]].alias("stay_id")
    assert dict(matched.select("n", stay_id).rows()) == expected


IDS = st.one_of(
    st.integers(-5, 40), st.integers(9_999_990, 10_000_010), st.integers(-(2**63), 2**63 - 1)
)


@settings(deadline=None)
@given(ids=st.sets(IDS, max_size=12), queries=st.lists(IDS, max_size=30))
@example(ids={9_999_999, 10_000_000}, queries=[])
def test_small_and_large_ids_are_found_at_their_positions(ids: set[int], queries: list[int]):
    ordered = sorted(ids)
    queries = [*queries, *ordered]
    index = IdIndex(np.array(ordered, dtype=np.int64))
    positions = index.find(np.array(queries, dtype=np.int64))
    assert positions.tolist() == [ordered.index(n) if n in ids else -1 for n in queries]
