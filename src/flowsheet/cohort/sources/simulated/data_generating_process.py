"""The options of the simulated ward's data-generating process.

``docs/simulated-ward.md`` has the equations. Drugs and variables have names of the catalogue, so
that the rest of the platform can read them. The effects of the drugs are invented; nothing can be
concluded from them about the real ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from flowsheet.cohort.sources.simulated.response_curves import (
    Exponential,
    Hump,
    NoEffect,
    Plateau,
    Power,
    ResponseCurve,
)
from flowsheet.config import FrozenModel, Name

Probability = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class SimulatedDrug(FrozenModel):
    """How often a drug is given, and the effect of a dose."""

    doses: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Amounts given in one step, equally likely, in the catalogue's unit."""
    reference: Positive
    """The dose that ``effect`` and ``physiology`` refer to; other doses act in proportion."""
    chance: Probability
    """Probability that a patient gets the drug in a step, if not septic in the step before."""
    when_septic: float = 0.0
    """Added to the logit of ``chance`` when the patient was septic in the step before."""
    infusion_share: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of the step that the infusion lasts; None: a single dose."""
    effect: float = 0.0
    """Logits of the response at the curve's maximum, per reference dose; negative protects."""
    curve: ResponseCurve = NoEffect()
    physiology: dict[str, float] = Field(default_factory=dict)
    """Change of a factor in the step of the dose, per reference dose."""


class PhysiologyFactor(FrozenModel):
    """A latent factor of the patient's physiology, autoregressive over steps."""

    memory: Annotated[float, Field(ge=0, lt=1)]
    """Autoregressive coefficient: the share of the last step's level that remains."""
    septic: float
    """Change in every septic step."""
    noise: Positive
    """Standard deviation of the innovation."""


class MeasuredVariable(FrozenModel):
    """A charted variable: the factors measured with noise, at irregular times.

    Values are in the catalogue's unit and range.
    """

    base: float
    """Value when all factors are 0; of its logarithm when ``log``."""
    loadings: dict[str, float]
    """Factor loadings: change per unit of each factor."""
    noise: NotNegative
    """Standard deviation of the measurement error."""
    log: bool = False
    """The measurements are log-normal."""
    decimals: Annotated[int, Field(ge=0, le=3)] = 0
    slots: Annotated[int, Field(ge=1, le=24)] = 1
    """Equal parts of a step; in each the variable may be measured once, at a random time."""
    chance: Probability
    """Probability of a measurement in a slot while the patient is not septic."""
    when_septic: float = 0.0
    """Added to the logit of ``chance`` in septic steps: septic patients are measured more often."""
    delay_hours: tuple[NotNegative, NotNegative] = (0.0, 0.0)
    """Smallest and largest delay from the sample to the result in the record; uniform."""


class CareUnit(FrozenModel):
    """A care unit."""

    share: Positive
    """Relative to the shares of the other units."""
    effect: float
    """Logits of the response."""


class ResponseModel(FrozenModel):
    """The logit of being septic in the next step, apart from the effects of the drugs."""

    intercept: float = -2.6
    persistence: float = 1.0
    """Added when the patient is septic in this step."""
    age: float = 0.25
    """Per ten years above 60."""
    male: float = 0.2
    frailty_sd: NotNegative = 0.1
    """Standard deviation of the subject's random intercept, which is never charted."""
    physiology: dict[str, float] = Field(
        default_factory=lambda: {"inflammation": 0.3, "circulation": 0.3, "organs": 0.2}
    )
    """Per unit of a factor."""


def _units() -> dict[str, CareUnit]:
    return {
        "MICU": CareUnit(share=0.5, effect=0.0),
        "SICU": CareUnit(share=0.3, effect=0.3),
        "CCU": CareUnit(share=0.2, effect=-0.3),
    }


def _factors() -> dict[str, PhysiologyFactor]:
    return {
        "inflammation": PhysiologyFactor(memory=0.6, septic=0.8, noise=0.6),
        "circulation": PhysiologyFactor(memory=0.5, septic=0.7, noise=0.6),
        "organs": PhysiologyFactor(memory=0.9, septic=0.25, noise=0.3),
    }


def _drugs() -> dict[str, SimulatedDrug]:
    late = Plateau(first=24, last=48, shoulder=2)
    soon = Plateau(first=1, last=8, shoulder=1)
    return {
        "vancomycin": SimulatedDrug(
            doses=(500, 1000, 1500), reference=1000, chance=0.08, effect=-2.5, curve=Hump(peak=4)
        ),
        "piperacillin_tazobactam": SimulatedDrug(
            doses=(2250, 4500), reference=4500, chance=0.08, effect=-2.5, curve=soon
        ),
        "ceftriaxone": SimulatedDrug(
            doses=(1000, 2000),
            reference=2000,
            chance=0.07,
            effect=-2,
            curve=Power(scale=2, exponent=1.2),
        ),
        "hydrocortisone": SimulatedDrug(
            doses=(50, 100), reference=100, chance=0.05, effect=4, curve=late
        ),
        "propofol": SimulatedDrug(
            doses=(100, 200, 300), reference=200, chance=0.1, effect=2.5, curve=Exponential(tau=3)
        ),
        "norepinephrine": SimulatedDrug(
            doses=(36, 72, 144),
            reference=72,
            chance=0.03,
            when_septic=1.5,
            infusion_share=0.25,
            effect=-0.6,
            curve=Exponential(tau=1),
            physiology={"circulation": -0.5},
        ),
        "furosemide": SimulatedDrug(
            doses=(20, 40, 80), reference=40, chance=0.1, physiology={"organs": -0.1}
        ),
        "insulin": SimulatedDrug(doses=(4, 8, 12), reference=8, chance=0.1),
    }


def _vital(
    base: float, loadings: dict[str, float], noise: float, decimals: int = 0
) -> MeasuredVariable:
    return MeasuredVariable(
        base=base,
        loadings=loadings,
        noise=noise,
        decimals=decimals,
        slots=3,
        chance=0.8,
        when_septic=1.5,
    )


def _lab(
    base: float, loadings: dict[str, float], noise: float, decimals: int = 1
) -> MeasuredVariable:
    return MeasuredVariable(
        base=base,
        loadings=loadings,
        noise=noise,
        log=True,
        decimals=decimals,
        chance=0.45,
        when_septic=1.5,
        delay_hours=(1, 6),
    )


def _variables() -> dict[str, MeasuredVariable]:
    return {
        "hr": _vital(84, {"inflammation": 6, "circulation": 8}, noise=3),
        "map": _vital(80, {"circulation": -8}, noise=3),
        "sbp": _vital(122, {"circulation": -11}, noise=5),
        "resp": _vital(18, {"inflammation": 2.5}, noise=1.2),
        "temp": _vital(37, {"inflammation": 0.5}, noise=0.2, decimals=1),
        "o2sat": _vital(96.5, {"circulation": -0.8}, noise=1),
        "gcs": _vital(14.2, {"circulation": -0.6}, noise=0.6),
        "lact": _lab(0.25, {"circulation": 0.4}, noise=0.1),
        "wbc": _lab(2.25, {"inflammation": 0.25}, noise=0.08),
        "crea": _lab(0, {"organs": 0.4}, noise=0.08),
        "bun": _lab(3, {"organs": 0.35}, noise=0.1, decimals=0),
        "bili": _lab(-0.3, {"organs": 0.5}, noise=0.15),
        "plt": _lab(5.3, {"organs": -0.25}, noise=0.1, decimals=0),
        "glu": _lab(4.85, {"inflammation": 0.1}, noise=0.15, decimals=0),
    }


DRUGS = tuple(_drugs())
VARIABLES = tuple(_variables())


class WardOptions(FrozenModel):
    """Size of the ward and its data-generating process. All time constants are in steps."""

    stays: Annotated[int, Field(ge=1)] = 1200
    seed: Annotated[int, Field(ge=0)] = 1
    """Another seed gives another ward. More stays with the same seed keep the first ones."""
    step_hours: Annotated[int, Field(ge=1, le=168)] = 24
    """Length of a step of the process: states, doses and probabilities are per step."""
    min_steps: Annotated[int, Field(ge=1)] = 20
    max_steps: Annotated[int, Field(ge=1, le=1000)] = 70
    """The length of stay is uniform on [min_steps, max_steps]."""
    share_readmitted: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of all stays that are second stays of a subject."""
    site: str = "simulated"
    known_delay_hours: NotNegative = 0.0
    """Delay from the end of an episode's first step until the episode is in the record."""
    response: ResponseModel = ResponseModel()
    response_name: Name = "sepsis"
    """What the state is called: sepsis, aki, ... (``flowsheet ls responses``). It changes the names
    of episodes, and nothing else."""
    units: Annotated[dict[str, CareUnit], Field(min_length=1)] = Field(default_factory=_units)
    factors: Annotated[dict[str, PhysiologyFactor], Field(min_length=1)] = Field(
        default_factory=_factors
    )
    drugs: Annotated[dict[str, SimulatedDrug], Field(min_length=1)] = Field(default_factory=_drugs)
    """Some or all of the source's drugs."""
    variables: Annotated[dict[str, MeasuredVariable], Field(min_length=1)] = Field(
        default_factory=_variables
    )
    """Some or all of the source's variables."""

    @model_validator(mode="after")
    def _check_references(self) -> WardOptions:
        if self.max_steps < self.min_steps:
            raise ValueError(
                f"max_steps ({self.max_steps}) must be at least min_steps ({self.min_steps})"
            )
        _check_known("drugs", self.drugs, DRUGS)
        _check_known("variables", self.variables, VARIABLES)
        _check_known("response.physiology", self.response.physiology, self.factors)
        for name, drug in self.drugs.items():
            _check_known(f"drugs.{name}.physiology", drug.physiology, self.factors)
        for name, variable in self.variables.items():
            _check_known(f"variables.{name}.loadings", variable.loadings, self.factors)
        return self


def _check_known(where: str, used: Iterable[str], known: Iterable[str]) -> None:
    names = set(known)
    if unknown := sorted(set(used) - names):
        raise ValueError(f"{where}: {', '.join(unknown)} is none of {', '.join(sorted(names))}")
