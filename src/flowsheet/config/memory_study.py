"""The study of what models remember."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowsheet.config.base import FrozenModel, Name


class MemoryStudyConfig(FrozenModel):
    """The study of what models remember, on a ward whose data-generating process is known."""

    replicates: Annotated[int, Field(ge=1, le=50)] = 3
    """Whole experiments that differ in the seeds of ward, split and training only."""
    lags: Annotated[int, Field(ge=1, le=500)] = 52
    """How many steps back doses and inputs are followed; only longer stays are used."""
    dose: Annotated[float, Field(gt=0)] = 1.0
    """The dose that is added, in multiples of the drug's reference dose."""
    max_stays: Annotated[int, Field(ge=1)] = 300
    """At most this many held-out stays of each replicate are averaged over."""
    gradient_lag: Annotated[int, Field(ge=1)] = 30
    """The lag at which gradients are compared."""
    example_stay: int | None = None
    """The held-out stay of the first replicate whose gates are shown; None: the one with the
    largest effect of old doses."""
    baseline: Name = "ar1"
    """The model whose log loss counts as 0 on the scale from baseline to oracle."""
    highlighted_models: tuple[Name, ...] = ("lstm", "gru", "rnn", "arx")
    """Models whose responses are drawn large."""
    expected_orders: tuple[tuple[Name, Name], ...] = (
        ("lstm", "rnn"),
        ("rnn", "arx"),
        ("arx", "logistic_regression"),
        ("arx", "ar1"),
    )
    """Pairs of which the first is expected to have the smaller log loss."""
