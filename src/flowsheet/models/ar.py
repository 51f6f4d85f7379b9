"""AR(p): the response regressed on its own last p known values."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from flowsheet.config import FrozenModel, IntRange, Space, Target
from flowsheet.models._markov import MarkovModel
from flowsheet.models.base import MODELS, Capabilities, ModelFamily


@MODELS.register("ar")
class AR(MarkovModel):
    """logit P(y = 1) = a + sum_j b_j h_j + sum_j c_j u_j over the last p known responses.

    On a first-onset task every h_j is 0 and no b_j can be estimated: such tasks are rejected.
    """

    title = "AR(p)"

    class Params(FrozenModel):
        """Parameters."""

        lags: Annotated[int, Field(ge=1)] = 3
        """p; at most the task's ``history_lags``."""

    capabilities = Capabilities(
        family=ModelFamily.autoregressive,
        input_description="the last p known responses",
        scaled=False,
        history=True,
        targets=frozenset({Target.state}),
    )
    space: ClassVar[Space] = {"lags": IntRange(low=1, high=7)}
