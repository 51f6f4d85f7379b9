"""How a model was tuned and trained."""

from __future__ import annotations

import altair as alt
import polars as pl

from flowsheet.charts.style import HEIGHT, WIDTH, Chart, make_data, model_color, set_style

MINIMUM_TRIALS = 3
"""With fewer complete trials there is no history to draw."""


def tuning_history(trials: pl.DataFrame, label: str, color: str = model_color(0)) -> Chart | None:
    """The value of each trial, complete ones filled, and the best so far as a line.

    None where fewer than :data:`MINIMUM_TRIALS` trials are complete.

    Args:
        trials: number, state and value.
        label: what the value is.
        color: of the model.
    """
    is_known = pl.col("value").is_not_null() & pl.col("value").is_not_nan()
    known = trials.filter(is_known).sort("number")
    complete = known.filter(pl.col("state") == "complete")
    if len(complete) < MINIMUM_TRIALS:
        return None
    x = alt.X("number:Q", title="Trial", axis=alt.Axis(tickMinStep=1, format="d"))
    scale = alt.Scale(zero=False, padding=10)
    best = complete.with_columns(value=pl.col("value").cum_max())
    line = alt.Chart(make_data(best)).mark_line(interpolate="step-after", color=color)
    dots = alt.Chart(make_data(known)).mark_point(size=36, opacity=1, stroke=color)
    is_complete = alt.datum.state == "complete"
    layers = alt.layer(
        line.encode(x=x, y=alt.Y("value:Q", title=label, scale=scale)),
        dots.encode(
            x=x,
            y=alt.Y("value:Q", scale=scale),
            fill=alt.when(is_complete).then(alt.value(color)).otherwise(alt.value("transparent")),
            tooltip=["number:Q", "state:N", alt.Tooltip("value:Q", format=".4f")],
        ),
    )
    return set_style(layers.properties(width=WIDTH, height=HEIGHT - 60), "Tuning history")


def training_curve(table: pl.DataFrame, color: str = model_color(0)) -> Chart | None:
    """A score over epochs or rounds: the last column of the table over its first.

    None where there are fewer than two points.
    """
    x_column, y_column = table.columns[0], table.columns[-1]
    numbers = table.select(pl.col(x_column, y_column).cast(pl.Float64, strict=False))
    known = numbers.drop_nulls().drop_nans()
    if len(known) < 2 or x_column == y_column:
        return None
    known = known.rename({x_column: "x", y_column: "y"})
    x_label, y_label = humanize(x_column), humanize(y_column)
    chart = alt.Chart(make_data(known)).mark_line(color=color, point={"size": 14, "color": color})
    chart = chart.encode(
        x=alt.X("x:Q", title=x_label, axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("y:Q", title=y_label, scale=alt.Scale(zero=False)),
        tooltip=[
            alt.Tooltip("x:Q", title=x_label),
            alt.Tooltip("y:Q", title=y_label, format=".4f"),
        ],
    )
    return set_style(chart.properties(width=WIDTH, height=HEIGHT - 60), "Training curve")


def humanize(name: str) -> str:
    """The name of a column for people.

    >>> humanize("valid_score")
    'Valid score'
    """
    return name.replace("_", " ").capitalize()
