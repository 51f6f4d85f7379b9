"""Counts of batches add up, in whatever parts they were counted, and survive being stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.cohort import checks
from flowsheet.cohort.validation_counts import ValidationCounts

BATCHES = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.lists(st.sampled_from(["known_sex", "end_after_start"]), max_size=400),
        st.dictionaries(st.sampled_from(["hr", "map", "temp"]), st.integers(0, 3)),
    ),
    min_size=1,
    max_size=6,
)


def count(batch: Any, counts: ValidationCounts) -> ValidationCounts:
    stay, rules, numbers = batch
    rows = [(None, "stays", f"stay {stay}", "sex", rule, str(i)) for i, rule in enumerate(rules)]
    columns = ("row", "table", "key", "column", "rule", "value")
    failures = pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)
    failures = failures.select(list(checks.FAILURES)).cast(pl.Schema(checks.FAILURES))
    counts.stays += 1
    counts.see_stay(stay)
    counts.add_failures(failures)
    counts.quarantined.update(dict.fromkeys({("stays", rule) for rule in sorted(rules)}, 1))
    counts.attrition.update(numbers)
    counts.variables |= set(numbers)
    return counts


def listed(counts: ValidationCounts) -> dict[str, Any]:
    """The values, with the order of the counters."""
    values: dict[str, Any] = {**vars(counts), "first_failures": counts.first_failures.rows()}
    return values | {"attrition": list(counts.attrition.items())}


@given(BATCHES, st.integers(0, 6))
def test_counts_of_parts_are_those_of_the_whole(batches: list[Any], n_first: int):
    whole = ValidationCounts()
    for batch in batches:
        count(batch, whole)
    added = ValidationCounts()
    for part in (batches[:n_first], batches[n_first:]):
        counts = ValidationCounts()
        for batch in part:
            count(batch, counts)
        added.add(counts)
    assert listed(added) == listed(whole)


def test_counts_are_stored_in_their_order(tmp_path: Path):
    counts = count((7, ["known_sex"] * 3, {"temp": 0, "hr": 2, "map": 1}), ValidationCounts())
    counts.save(tmp_path)
    assert listed(ValidationCounts.load(tmp_path)) == listed(counts)
