from __future__ import annotations

import pytest

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.lifecycle.experiment.prepare import summarise_windows
from flowsheet.testing.tables import make_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary


@pytest.mark.parametrize(
    ("aggregations", "unknown"),
    [
        (("last",), {"hr": 0.25, "lact": 1.0}),  # carried through the second and third step
        (("count",), {"hr": 0.75, "lact": 1.0}),
        (("mean", "count"), {"hr": 0.75, "lact": 1.0}),
        (("last", "mean", "min", "max", "count"), {"hr": 0.25, "lact": 1.0}),
    ],
)
def test_a_variable_is_unknown_where_none_of_its_columns_has_a_value(aggregations, unknown):
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 16}],
        [{"stay_id": 1, "variable": "hr", "time": 1, "value": 70.0}],
    )
    features = FeaturesConfig(name="f", aggregations=aggregations, carry_forward_hours=11)
    task = TaskConfig(name="t", step_hours=4, horizon=1)
    made = build_sequences(tables, task, features, ("hr", "lact"), (), collect_vocabulary(tables))
    assert summarise_windows(made)["unknown_share"] == unknown
