"""Counts that describe the windows."""

from __future__ import annotations

import pytest

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.lifecycle.experiment.prepare import summarise_windows
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary


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
    assert summarise_windows(sequences)["missing_share"] == missing_share
