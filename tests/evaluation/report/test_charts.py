"""Charts of unusual data."""

import polars as pl

from flowsheet.evaluation.report.charts import draw_lead_times


def test_lead_times_are_drawn_although_no_onset_has_an_alert():
    table = pl.DataFrame(
        {"repeat": [0], "model": ["a"], "hours": [None], "episodes": [3]},
        schema_overrides={"hours": pl.Float64},
    )
    assert "<svg" in draw_lead_times(table, ["a"])
