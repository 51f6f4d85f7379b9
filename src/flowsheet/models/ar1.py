"""AR(1): a Markov chain whose next state depends on the last known one alone."""

from __future__ import annotations

from flowsheet.config import FrozenModel, Target
from flowsheet.models._markov import MarkovModel
from flowsheet.models.base import MODELS, Capabilities, ModelFamily


@MODELS.register("ar1")
class AR1(MarkovModel):
    """logit P(y = 1) = a + b h_0, with h_0 the last response that is known when predicting.

    exp(b) is the odds ratio between a patient known to be septic and one who is not. On a
    first-onset task h_0 is always 0 and b cannot be estimated: such tasks are rejected.
    """

    title = "AR(1)"

    class Params(FrozenModel):
        """No parameters: one lag, by maximum likelihood."""

    capabilities = Capabilities(
        family=ModelFamily.autoregressive,
        input_description="the last known response",
        scaled=False,
        history=True,
        targets=frozenset({Target.state}),
    )
