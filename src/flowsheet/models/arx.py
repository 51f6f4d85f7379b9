"""ARX(p): the response regressed on its own last p known values and on the current inputs."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from flowsheet.config import FrozenModel, IntRange, Response, Space
from flowsheet.models._markov import MarkovModel
from flowsheet.models.base import MODELS, Capabilities, ModelFamily


@MODELS.register("arx")
class ARX(MarkovModel):
    """logit P(y = 1) = a + sum_j b_j h_j + sum_j c_j u_j + x d, with x the scaled inputs of the
    current row.

    A dose given now changes the prediction now; what it did to the response comes back through h_j,
    but the dose itself is forgotten at the next step. No penalty: the estimates are those of the
    likelihood, and columns that repeat others are left out (null in the table). On a first-onset
    task every h_j is 0: such tasks are refused, and logistic regression is the same model without
    them.
    """

    class Params(FrozenModel):
        """Parameters."""

        lags: Annotated[int, Field(ge=1)] = 1
        """p; no more than the task's ``history_lags`` are used."""

    capabilities = Capabilities(
        family=ModelFamily.autoregressive_covariates,
        input_description="the last p known responses and the current row",
        history=True,
        responses=frozenset({Response.state}),
    )
    space: ClassVar[Space] = {"lags": IntRange(low=1, high=7)}
    covariates = True
