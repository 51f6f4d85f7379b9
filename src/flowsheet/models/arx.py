"""ARX(p): the response regressed on its own last p known values and on the current inputs."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from flowsheet.config import IntRange, Space, Target
from flowsheet.models._markov import MarkovModel
from flowsheet.models._rows import InputParams
from flowsheet.models.base import MODELS, Capabilities, ModelFamily


@MODELS.register("arx")
class ARX(MarkovModel):
    """logit P(y = 1) = a + sum_j b_j h_j + sum_j c_j u_j + x d, x being the current scaled inputs.

    A dose given now changes the prediction now; its effect on the response returns through h_j, but
    the dose itself is forgotten at the next step. There is no penalty: the estimates are maximum
    likelihood, and linearly dependent columns are left out (null in the table). On a first-onset
    task every h_j is 0: such tasks are rejected; logistic regression is the same model without h.
    """

    title = "ARX(p)"

    class Params(InputParams):
        """Parameters."""

        lags: Annotated[int, Field(ge=1)] = 1
        """p; at most the task's ``history_lags``."""

    capabilities = Capabilities(
        family=ModelFamily.autoregressive_covariates,
        input_description="the last p known responses and the current row",
        history=True,
        targets=frozenset({Target.state}),
    )
    space: ClassVar[Space] = {"lags": IntRange(low=1, high=7)}
    covariates = reads_inputs = True
