"""Response curves: the effect of one dose over time, as a function of the lag in steps.

A dose given in step k acts on the response of step k + 1 with lag 0, on that of step k + 2 with lag
1, and so on. The largest value of every curve is 1; a drug's ``effect`` is the size in logits.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from flowsheet.config import FrozenModel
from flowsheet.typing import Floats

Positive = Annotated[float, Field(gt=0)]


class Exponential(FrozenModel):
    """``exp(-lag / tau)``: strongest at lag 0, then decaying at a constant rate."""

    shape: Literal["exponential"] = "exponential"
    tau: Positive

    def at(self, lag: Floats) -> Floats:
        """The curve at these lags."""
        return np.exp(-lag / self.tau)


class Hump(FrozenModel):
    """``(lag / peak * exp(1 - lag / peak)) ** sharpness``: rises from 0 to ``peak``, then decays.

    A gamma density with its mode at ``peak``, scaled to 1 there.
    """

    shape: Literal["hump"] = "hump"
    peak: Positive
    sharpness: Positive = 2.0

    def at(self, lag: Floats) -> Floats:
        """The curve at these lags."""
        return np.asarray((lag / self.peak * np.exp(1 - lag / self.peak)) ** self.sharpness)


class Plateau(FrozenModel):
    """1 from lag ``first`` to lag ``last``, with logistic shoulders of width ``shoulder``.

    ``sigmoid((lag - first + 1/2) / shoulder) * sigmoid((last + 1/2 - lag) / shoulder)``; with
    shoulder 0 it is 1 on first..last, both included, and 0 elsewhere.
    """

    shape: Literal["plateau"] = "plateau"
    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]
    shoulder: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _check_order(self) -> Plateau:
        if self.last < self.first:
            raise ValueError(f"last ({self.last}) must not be smaller than first ({self.first})")
        return self

    def at(self, lag: Floats) -> Floats:
        """The curve at these lags."""
        width = self.shoulder or 1e-9
        return np.asarray(
            expit((lag - self.first + 0.5) / width) * expit((self.last + 0.5 - lag) / width)
        )


class Power(FrozenModel):
    """``(1 + lag / scale) ** -exponent``: falls fast at first and has a long tail."""

    shape: Literal["power"] = "power"
    scale: Positive
    exponent: Positive

    def at(self, lag: Floats) -> Floats:
        """The curve at these lags."""
        return np.asarray((1 + lag / self.scale) ** -self.exponent)


class NoEffect(FrozenModel):
    """0 everywhere: the drug has no direct effect on the response."""

    shape: Literal["none"] = "none"

    def at(self, lag: Floats) -> Floats:
        """The curve at these lags."""
        return np.zeros_like(lag)


ResponseCurve = Annotated[
    Exponential | Hump | Plateau | Power | NoEffect, Field(discriminator="shape")
]
