"""Counts that describe the windows."""

from __future__ import annotations

import polars as pl
import pytest

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.lifecycle.experiment.prepare import merge_small_groups, summarise_windows
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.fill import ColumnFill


@pytest.mark.parametrize(
    ("aggregations", "missing_share"),
    [
        (("last",), {"hr": 0.25, "lact": 1.0}),  # carried forward to the second and third step
        (("count",), {"hr": 0.75, "lact": 1.0}),
        (("mean", "count"), {"hr": 0.75, "lact": 1.0}),
        (("last", "mean", "min", "max", "count"), {"hr": 0.25, "lact": 1.0}),
    ],
)
def test_a_variable_is_missing_where_none_of_its_columns_has_a_value(aggregations, missing_share):
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 16}],
        [{"stay_id": 1, "variable": "hr", "time": 1, "value": 70.0}],
    )
    features = FeaturesConfig(name="f", aggregations=aggregations, carry_forward_hours=11)
    task = TaskConfig(name="t", step_hours=4, horizon=1)
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(tables, task, features, ("hr", "lact"), (), vocabulary)
    assert (
        summarise_windows(sequences, ColumnFill.count(sequences))["missing_share"] == missing_share
    )


def test_the_counts_of_what_is_left_out_add_up():
    tables = make_tables(
        [
            {"stay_id": 1, "subject_id": 1, "discharged_at": 20},  # ends before the first question
            {"stay_id": 2, "subject_id": 1, "discharged_at": 96},
            {"stay_id": 3, "discharged_at": 96},
            {"stay_id": 4, "discharged_at": 96},
            {"stay_id": 5, "discharged_at": 40},  # its only window is cut by discharge
        ],
        episodes=[
            {"stay_id": 2, "onset": 60},
            {"stay_id": 3, "onset": 5, "present_on_admission": True},
            {"stay_id": 4, "onset": 10},
        ],
    )
    task = TaskConfig(name="t", target="onset", end_at="comfort_measures")
    features = FeaturesConfig(name="f", variables=())
    sequences = build_sequences(tables, task, features, (), (), collect_vocabulary(tables))
    summary = summarise_windows(sequences, ColumnFill.count(sequences))
    assert summary["left_out"] == {
        "not_asked": {"rows": 0, "stays": 0, "subjects": 0},
        "outside_stay": {"rows": 2, "stays": 1, "subjects": 0},
        "after_comfort_measures": {"rows": 0, "stays": 0, "subjects": 0},
        "present_on_admission": {"rows": 4, "stays": 1, "subjects": 1},
        "after_onset": {"rows": 6, "stays": 1, "subjects": 1},
        "incomplete_window": {"rows": 1, "stays": 1, "subjects": 1},
    }
    totals = {"rows": 0, "stays": 0, "subjects": 0}
    for counts in summary["left_out"].values():
        totals = {name: totals[name] + counts[name] for name in totals}
    assert (summary["scored_rows"], summary["events"]) == (2, 1)
    assert (summary["scored_stays"], summary["scored_subjects"]) == (1, 1)
    for name in totals:
        assert totals[name] + summary[f"scored_{name}"] == summary[name]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"white": 30, "asian": 6, "native": 5}, {"white": 30, "other": 11}),
        ({"white": 30, "other": 8, "asian": 3}, {"white": 30, "other": 11}),
        ({"white": 30, "asian": 3, None: 4}, {"white": 30, None: 7}),
        ({"white": 10, None: 20}, {"white": 10, None: 20}),
    ],
)
def test_small_groups_are_one_group_or_none(sizes, expected):
    groups = pl.Series("ethnicity", [name for name, n in sizes.items() for _ in range(n)])
    merged = merge_small_groups(groups)
    assert dict(merged.value_counts().iter_rows()) == expected
