"""The parameters of the simulated ward's law; ``docs/simulated-ward.md`` has the equations.

Drugs and variables bear names of the catalogue so that the rest of the platform reads them; what
the drugs do here is invented and says nothing about the real ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from flowsheet.cohort.sources.simulated.response_curves import (
    Curve,
    Exponential,
    Hump,
    Nothing,
    Plateau,
    Power,
)
from flowsheet.config import FrozenModel

Probability = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Drug(FrozenModel):
    """When a drug is given, and what a dose does."""

    doses: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Amounts given in one step, equally likely, in the catalogue's unit."""
    reference: Positive
    """The dose of which ``effect`` and ``physiology`` speak; other doses act in proportion."""
    chance: Probability
    """Probability of being given in a step to a patient who was not septic in the step before."""
    when_septic: float = 0.0
    """Added to the logit of ``chance`` when the patient was septic in the step before."""
    infusion_share: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of the step over which the amount runs in; None: given at once."""
    effect: float = 0.0
    """Logits of the response at the curve's maximum, per reference dose; negative protects."""
    curve: Curve = Nothing()
    physiology: dict[str, float] = Field(default_factory=dict)
    """Push on a factor in the step of the dose, per reference dose."""


class Factor(FrozenModel):
    """A hidden trait of the patient's physiology, autoregressive over steps."""

    memory: Annotated[float, Field(ge=0, lt=1)]
    """Share of the last step's level that is kept."""
    septic: float
    """Push in every septic step."""
    noise: Positive
    """Standard deviation of the innovation."""


class Channel(FrozenModel):
    """A charted variable: a noisy reading of the factors at irregular times, in the catalogue's unit and range."""

    base: float
    """Value at rest; of its logarithm when ``log``."""
    loads: dict[str, float]
    """Change per unit of a factor."""
    noise: NotNegative
    """Standard deviation of one reading."""
    log: bool = False
    """The readings are log-normal."""
    decimals: Annotated[int, Field(ge=0, le=3)] = 0
    slots: Annotated[int, Field(ge=1, le=24)] = 1
    """Chances of a reading per step; each has its own part of the step and a random time in it."""
    chance: Probability
    """Probability that a reading is taken in a slot while the patient is not septic."""
    when_septic: float = 0.0
    """Added to the logit of ``chance`` in septic steps: the sick are measured more often."""
    delay_hours: tuple[NotNegative, NotNegative] = (0.0, 0.0)
    """Between the sample and its result in the record; uniform."""


class Unit(FrozenModel):
    """A care unit."""

    share: Positive
    """Relative to the other units' shares."""
    effect: float
    """Logits of the response."""


class ResponseLaw(FrozenModel):
    """What makes a patient septic in the next step, in logits, apart from the drugs."""

    intercept: float = -2.6
    persistence: float = 1.0
    """When septic in this step."""
    age: float = 0.25
    """Per ten years above 60."""
    male: float = 0.2
    frailty_sd: NotNegative = 0.1
    """Standard deviation of a subject's own, never charted level."""
    physiology: dict[str, float] = Field(
        default_factory=lambda: {"inflammation": 0.3, "circulation": 0.3, "organs": 0.2}
    )
    """Per unit of a factor."""


def _units() -> dict[str, Unit]:
    return {
        "MICU": Unit(share=0.5, effect=0.0),
        "SICU": Unit(share=0.3, effect=0.3),
        "CCU": Unit(share=0.2, effect=-0.3),
    }


def _factors() -> dict[str, Factor]:
    return {
        "inflammation": Factor(memory=0.6, septic=0.8, noise=0.6),
        "circulation": Factor(memory=0.5, septic=0.7, noise=0.6),
        "organs": Factor(memory=0.9, septic=0.25, noise=0.3),
    }


def _drugs() -> dict[str, Drug]:
    late = Plateau(first=24, last=48, shoulder=2)
    soon = Plateau(first=1, last=8, shoulder=1)
    return {
        "vancomycin": Drug(
            doses=(500, 1000, 1500), reference=1000, chance=0.08, effect=-2.5, curve=Hump(peak=4)
        ),
        "piperacillin_tazobactam": Drug(
            doses=(2250, 4500), reference=4500, chance=0.08, effect=-2.5, curve=soon
        ),
        "ceftriaxone": Drug(
            doses=(1000, 2000),
            reference=2000,
            chance=0.07,
            effect=-2,
            curve=Power(scale=2, exponent=1.2),
        ),
        "hydrocortisone": Drug(doses=(50, 100), reference=100, chance=0.05, effect=4, curve=late),
        "propofol": Drug(
            doses=(100, 200, 300), reference=200, chance=0.1, effect=2.5, curve=Exponential(tau=3)
        ),
        "norepinephrine": Drug(
            doses=(36, 72, 144),
            reference=72,
            chance=0.03,
            when_septic=1.5,
            infusion_share=0.25,
            effect=-0.6,
            curve=Exponential(tau=1),
            physiology={"circulation": -0.5},
        ),
        "furosemide": Drug(
            doses=(20, 40, 80), reference=40, chance=0.1, physiology={"organs": -0.1}
        ),
        "insulin": Drug(doses=(4, 8, 12), reference=8, chance=0.1),
    }


def _vital(base: float, loads: dict[str, float], noise: float, decimals: int = 0) -> Channel:
    return Channel(
        base=base, loads=loads, noise=noise, decimals=decimals, slots=3, chance=0.8, when_septic=1.5
    )


def _lab(base: float, loads: dict[str, float], noise: float, decimals: int = 1) -> Channel:
    return Channel(
        base=base,
        loads=loads,
        noise=noise,
        log=True,
        decimals=decimals,
        chance=0.45,
        when_septic=1.5,
        delay_hours=(1, 6),
    )


def _channels() -> dict[str, Channel]:
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
VARIABLES = tuple(_channels())


class WardOptions(FrozenModel):
    """The ward: how many, how long, and by what law. Every time constant counts in steps."""

    stays: Annotated[int, Field(ge=1)] = 1200
    seed: Annotated[int, Field(ge=0)] = 1
    """Another seed is another ward; more stays of the same seed leave the first ones as they are."""
    step_hours: Annotated[int, Field(ge=1, le=168)] = 24
    """The ward's own step: its states, doses and probabilities are per step of this length."""
    min_steps: Annotated[int, Field(ge=1)] = 20
    max_steps: Annotated[int, Field(ge=1, le=1000)] = 70
    """Lengths of stay are uniform on [min_steps, max_steps]."""
    share_readmitted: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of all stays that are the second stay of their subject."""
    site: str = "simulated"
    known_delay_hours: NotNegative = 0.0
    """An episode is known this long after the end of the step in which it began."""
    response: ResponseLaw = ResponseLaw()
    units: Annotated[dict[str, Unit], Field(min_length=1)] = Field(default_factory=_units)
    factors: Annotated[dict[str, Factor], Field(min_length=1)] = Field(default_factory=_factors)
    drugs: Annotated[dict[str, Drug], Field(min_length=1)] = Field(default_factory=_drugs)
    """Some or all of the source's drugs."""
    channels: Annotated[dict[str, Channel], Field(min_length=1)] = Field(default_factory=_channels)
    """Some or all of the source's variables."""

    @model_validator(mode="after")
    def _speaks_of_what_there_is(self) -> WardOptions:
        if self.max_steps < self.min_steps:
            raise ValueError(
                f"max_steps ({self.max_steps}) must not be smaller than min_steps ({self.min_steps})"
            )
        _known("drugs", self.drugs, DRUGS)
        _known("channels", self.channels, VARIABLES)
        _known("response.physiology", self.response.physiology, self.factors)
        for name, drug in self.drugs.items():
            _known(f"drugs.{name}.physiology", drug.physiology, self.factors)
        for name, channel in self.channels.items():
            _known(f"channels.{name}.loads", channel.loads, self.factors)
        return self


def _known(where: str, used: Iterable[str], known: Iterable[str]) -> None:
    names = set(known)
    if unknown := sorted(set(used) - names):
        raise ValueError(f"{where}: {', '.join(unknown)} is none of {', '.join(sorted(names))}")
