"""Groups of subjects that are left out, to choose what holds elsewhere."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flowsheet.errors import UsageError
from flowsheet.testing.sequences import plain_sequences
from flowsheet.windows.sequences import Feature
from flowsheet.windows.shift_groups import group_subjects

START = datetime(2010, 6, 1)


def make_stays(n, **columns):
    """``n`` stays of two rows, a subject each; every third one has the event."""
    y = np.repeat(np.arange(n) % 3 == 0, 2)
    sequences = plain_sequences(np.zeros((2 * n, 1)), y, length=2)
    stays = pl.DataFrame(
        {
            "stay_id": np.arange(n),
            "subject_id": np.arange(n),
            "admitted_at": [START + timedelta(days=100 * i) for i in range(n)],
            "unit": ["A", "B"] * (n // 2),
            "site": ["here"] * n,
            **columns,
        }
    )
    return sequences, stays


def group(sequences, stays, by, least=1):
    frame = group_subjects([sequences], stays, by, least)
    return dict(frame.select("subject_id", "group").iter_rows())


def test_a_subject_has_the_unit_of_the_first_stay():
    sequences, stays = make_stays(12)
    stays = stays.with_columns(subject_id=pl.col("stay_id") // 4 * 4)
    stays = stays.with_columns(
        unit=pl.when(pl.col("stay_id") == 4).then(pl.lit("B")).otherwise("unit")
    )
    assert group(sequences, stays, "unit") == {0: "A", 4: "B", 8: "A"}


def test_parts_are_divided_together_and_a_missing_unit_is_a_group():
    sequences, stays = make_stays(12, unit=["A", None] * 6)
    parts = [sequences.take(np.arange(5)), sequences.take(np.arange(5, 12))]
    found = dict(group_subjects(parts, stays, "unit", 1).iter_rows())
    assert found == {i: "A" if i % 2 == 0 else "unknown" for i in range(12)}


def test_years_are_spans_with_about_as_many_subjects():
    sequences, stays = make_stays(60)
    found = group(sequences, stays, "year")
    years = dict(zip(stays["subject_id"], stays["admitted_at"].dt.year(), strict=True))
    assert len(set(found.values())) == 5
    for subject, span in found.items():
        low, high = map(int, span.split(" to "))
        assert low <= years[subject] <= high
    sizes = [list(found.values()).count(span) for span in set(found.values())]
    assert max(sizes) - min(sizes) <= 8  # up to two whole years of subjects


def test_charting_habits_are_thirds_by_what_arrives():
    sequences, stays = make_stays(12)
    missing = (np.arange(12) % 4 / 4).repeat(2)[:, None]
    sequences = replace(
        sequences, x=missing.astype(np.float32), features=(Feature("hr_missing", "missing", "hr"),)
    )
    found = group(sequences, stays, "charting")
    assert {subject % 4: name for subject, name in found.items()} == {
        0: "charted most",
        1: "charted as usual",
        2: "charted least",
        3: "charted least",
    }
    with pytest.raises(UsageError, match="what is measured"):
        group(*make_stays(12), "charting")


def test_groups_with_few_events_are_one_and_two_are_needed():
    sequences, stays = make_stays(30, unit=["A"] * 10 + ["B"] * 10 + list("CDEFGHIJKL")[:10])
    found = group(sequences, stays, "unit", least=3)
    assert set(found.values()) == {"A", "B", "others"}
    assert sum(name == "others" for name in found.values()) == 10
    with pytest.raises(UsageError, match="cannot be divided by site") as caught:
        group(sequences, stays, "site")
    assert "here: 10" in caught.value.where
