"""The frozen, validated experiment: every choice that a run depends on, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flowsheet.errors import UsageError, did_you_mean
from flowsheet.state.hashing import digest

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Scalar = bool | int | float | str | None


class FrozenModel(BaseModel):
    """Base of all configuration: immutable, and no key that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def digest(self) -> str:
        """sha256 of the values."""
        return digest(self.model_dump(mode="json"))


class Policy(StrEnum):
    """What ingest does with a row that breaks a rule."""

    reject = "reject"
    quarantine = "quarantine"


class QuarantineConfig(FrozenModel):
    """What becomes of rows that break a rule of the contract."""

    default: Policy = Policy.quarantine
    rules: dict[str, Policy] = {}
    """Policy per rule name, where it differs from the default."""
    max_share: Share = 0.02
    """Reject the extract when a larger share of any table's rows is quarantined."""


class CohortConfig(FrozenModel):
    """Which records, from where."""

    name: Name
    source: Name
    path: str | None = None
    options: dict[str, Any] = {}
    """Validated by the source's own ``Options``."""
    quarantine: QuarantineConfig = QuarantineConfig()


class Response(StrEnum):
    """What y is: the state "septic at some time in the window", or its first onset."""

    state = "state"
    onset = "onset"


class Censor(StrEnum):
    """What becomes of a row whose target window reaches beyond the end of the stay."""

    keep = "keep"
    """The rest of the window counts as free of the event."""
    drop = "drop"
    """The row leaves the risk set, unless the event is seen in the part that was observed."""


class TaskConfig(FrozenModel):
    """What is predicted, when, and for whom (see docs of ``flowsheet.windows.task``)."""

    name: Name
    response: Response = Response.state
    step_hours: Annotated[float, Field(gt=0)] = 24.0
    horizon: Annotated[int, Field(ge=0)] = 1
    """Steps ahead; 0 is "the rest of this step, after the cut-off"."""
    cutoff_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours into the step at which a same-step prediction is made; only with horizon 0."""
    censor: Censor = Censor.drop
    history_lags: Annotated[int, Field(ge=0, le=64)] = 7
    """How many of the patient's own past responses are offered to models that want them."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Longer stays are cut after this many steps; None keeps them whole."""

    @model_validator(mode="after")
    def _cutoff_belongs_to_the_same_step(self) -> TaskConfig:
        if (self.horizon == 0) != (self.cutoff_hours is not None):
            raise ValueError("cutoff_hours goes with horizon 0, and horizon 0 needs cutoff_hours")
        if self.cutoff_hours is not None and self.cutoff_hours >= self.step_hours:
            raise ValueError(
                f"cutoff_hours ({self.cutoff_hours}) must lie inside the step ({self.step_hours} h)"
            )
        return self


Aggregation = Literal["last", "mean", "min", "max", "count"]
TreatmentColumn = Literal["on", "dose", "since"]


class FeaturesConfig(FrozenModel):
    """How facts become numbers on the grid."""

    name: Name
    variables: Literal["all"] | tuple[str, ...] = "all"
    """Catalogue variables; "all" takes those that the extract's manifest says it can hold."""
    aggregations: tuple[Aggregation, ...] = ("last",)
    carry_forward_hours: Annotated[float, Field(ge=0)] = 48.0
    """How long a value stays valid after it was true; 0 keeps it to its own step."""
    carry_forward_by_variable: dict[str, float] = {}
    missing_indicators: bool = True
    hours_since_measured: bool = True
    treatments: Literal["all", "none"] | tuple[str, ...] = "all"
    treatment_columns: tuple[TreatmentColumn, ...] = Field(
        default=("on", "dose", "since"), min_length=1
    )
    """What each drug is told by; without "since" no column remembers an earlier dose."""
    statics: tuple[str, ...] = ("age", "sex", "unit", "hours_in_hospital")
    time: bool = True
    """Hours since admission as a feature."""


class FloatRange(FrozenModel):
    """A real parameter of a search space."""

    type: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False


class IntRange(FrozenModel):
    """A whole parameter of a search space."""

    type: Literal["int"] = "int"
    low: int
    high: int
    step: int = 1
    log: bool = False


class Choice(FrozenModel):
    """One of a few values."""

    type: Literal["choice"] = "choice"
    of: tuple[Scalar, ...] = Field(min_length=1)


Range = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]
Space = dict[str, Range]
"""What may be tuned, and between which bounds, as plain data."""


class ModelConfig(FrozenModel):
    """One model on the ladder, as an experiment wants it."""

    kind: Name
    """A registered model."""
    params: dict[str, Scalar | tuple[Scalar, ...]] = {}
    """Fixed parameters; the rest keep their defaults or are tuned."""
    space: Space | None = None
    """Search space as plain data; None takes the model's own, {} tunes nothing."""
    history: bool = False
    """Give the model the patient's known past responses as inputs."""
    trials: Annotated[int, Field(ge=1)] | None = None
    """Trials for this model, where they differ from the tuning's."""


class TuningConfig(FrozenModel):
    """How hard to search."""

    name: Name
    trials: Annotated[int, Field(ge=1)] = 10
    metric: Name = "auprc"
    """Monitored on the validation split; a registered metric."""
    prune: bool = True
    startup_trials: Annotated[int, Field(ge=1)] = 4
    timeout_minutes: Annotated[float, Field(gt=0)] | None = None
    """Start no further trial of a model after this long (makes results depend on the machine's speed)."""


class Protocol(StrEnum):
    """Who is held out (see ``flowsheet.windows.protocol``)."""

    holdout = "holdout"
    """A share of the subjects, once."""
    cross_validation = "cross_validation"
    """Every subject once in each repeat; tuning happens inside each fold's other subjects."""
    temporal = "temporal"
    """The share of the subjects who came last."""
    site = "site"
    """The subjects of some sites, or of each site in turn."""


class EvaluationConfig(FrozenModel):
    """Who is held out, and what is reported."""

    name: Name
    protocol: Protocol = Protocol.holdout
    test: Fraction = 0.2
    """Share of all subjects: hold-out and temporal protocols."""
    validation: Fraction = 0.16
    """Share of all subjects that tuning and early stopping look at."""
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    """Of a cross-validation."""
    repeats: Annotated[int, Field(ge=1, le=50)] = 1
    """Of a cross-validation, each with other folds."""
    sites: tuple[str, ...] = ()
    """Held out together by the site protocol; none named: each site in turn."""
    metric: Name = "auroc"
    """The leaderboard's order."""
    resamples: Annotated[int, Field(ge=0)] = 500
    confidence: Fraction = 0.95
    minimum_events: Annotated[int, Field(ge=1)] = 5
    """With fewer positives or negatives a figure is "not estimable"."""


class ComputeConfig(FrozenModel):
    """Where and how wide; never part of what a result depends on."""

    name: Name
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[int, Field(ge=1)] = 1
    """Models trained side by side, a process each; with a pool: flow runs that tune one model
    together, which takes a database (``FLOWSHEET_OPTUNA_URL``)."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads a model."""
    runner: Literal["process", "dask", "ray"] = "process"
    """What the worker processes are made by, where there is no pool."""
    pool: Literal["cpu", "gpu"] | None = None
    """The Prefect work pool that trains; None: processes of this run do."""
    training_minutes: Annotated[float, Field(gt=0)] | None = None
    """The longest that training a model in one round may take; longer is a failure."""
    run_minutes: Annotated[float, Field(gt=0)] | None = None
    """The longest that the whole run may take."""
    pickup_minutes: Annotated[float, Field(gt=0)] = 10
    """With a pool: the longest that a training may lie there while no worker of the pool works on anything."""


class RegistryConfig(FrozenModel):
    """Where the best version of each model is registered."""

    register_models: bool = True
    prefix: str = ""
    """Registered names are ``<prefix or experiment>-<model>``."""


class MemoryConfig(FrozenModel):
    """The study of what models remember, on a ward whose data-generating process is known."""

    replicates: Annotated[int, Field(ge=1, le=50)] = 3
    """Whole experiments that differ in the seeds of ward, split and training only."""
    lags: Annotated[int, Field(ge=1, le=500)] = 52
    """How many steps back doses and inputs are followed; only stays longer than this tell."""
    doses: Annotated[float, Field(gt=0)] = 1.0
    """The dose that is added, in the drug's reference doses."""
    stays: Annotated[int, Field(ge=1)] = 300
    """Held-out stays, of each replicate, over which responses and gradients are averaged, at most."""
    far: Annotated[int, Field(ge=1)] = 30
    """The lag at which gradients are compared."""
    stay: int | None = None
    """The held-out stay of the first replicate whose gates are shown; None: the one that owes most to old doses."""
    baseline: Name = "ar1"
    """The model from which the way to the law's own log loss is counted."""
    closer: tuple[Name, ...] = ("lstm", "gru", "rnn", "arx")
    """Models whose responses are drawn large."""
    orders: tuple[tuple[Name, Name], ...] = (
        ("lstm", "rnn"),
        ("rnn", "arx"),
        ("arx", "logistic_regression"),
        ("arx", "ar1"),
    )
    """Pairs of which the first is expected to have the smaller log loss."""


class PromotionConfig(FrozenModel):
    """What a version must show before it serves (see ``lifecycle.deployment.gates``); all on held-out subjects."""

    name: Name
    metric: Name = "auroc"
    """By which it is held against the champion, on the same frozen rows."""
    rule: Literal["better", "not_worse"] = "better"
    """``better``: the whole interval of the difference is on the good side of 0. ``not_worse``: the
    whole interval is on the good side of ``margin`` to the worse."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    resamples: Annotated[int, Field(ge=100)] = 1000
    confidence: Fraction = 0.95
    calibration_slope: tuple[float, float] = (0.7, 1.4)
    """Bounds of the slope; 1 is perfect."""
    ece: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The largest expected calibration error."""
    subgroup_floor: Share = 0.6
    """The least ``metric`` in every subgroup where it is estimable."""
    latency_ms: Annotated[float, Field(gt=0)] = 250.0
    """The longest that the answer for one stay may take: the median of some tries in this process."""


class MonitoringConfig(FrozenModel):
    """What counts as a change since training (see ``flowsheet.monitoring.findings``)."""

    name: Name
    alpha: Fraction = 0.01
    """The chance, at most, that a report flags anything although nothing has changed."""
    gap: Fraction = 0.1
    """The least distance between two distribution functions that matters: a tenth of the stays."""
    measurement_rate_ratio: Annotated[float, Field(gt=1)] = 1.5
    """Charted this many times as often, or as seldom, matters too."""
    auroc_loss: Fraction = 0.02
    slope_change: Annotated[float, Field(gt=0)] = 0.2
    """Of calibration."""
    intercept_change: Annotated[float, Field(gt=0)] = 0.2
    """Of calibration, in log odds."""
    minimum_stays: Annotated[int, Field(ge=20)] = 100
    """Patients that a distribution needs, then and now; with fewer it is "not estimable"."""
    minimum_events: Annotated[int, Field(ge=5)] = 20
    """Patients with the event that discrimination and calibration need."""


class ExperimentConfig(FrozenModel):
    """One experiment, resolved: the same values give the same numbers."""

    name: Name
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    cohort: CohortConfig
    task: TaskConfig
    features: FeaturesConfig
    models: dict[Name, ModelConfig] = Field(min_length=1)
    tuning: TuningConfig
    evaluation: EvaluationConfig
    compute: ComputeConfig
    registry: RegistryConfig = RegistryConfig()
    memory: MemoryConfig | None = None


M = TypeVar("M", bound=BaseModel)


def validate_config(
    cls: type[M], values: Mapping[str, Any], where: str, prefix: tuple[str, ...] = ()
) -> M:
    """``cls(**values)``, or one message that names every wrong key and value and the nearest right
    one.

    Raises:
        UsageError: a key is unknown, or a value has the wrong type, is out of bounds or not finite.
    """
    try:
        made = cls.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(cls, prefix, dict(problem)) for problem in error.errors()]
        raise UsageError(
            "; ".join(lines), where=where, todo="mend the key or value named above"
        ) from None
    for key in non_finite_keys(made.model_dump(), prefix):
        raise UsageError(f"{key} is not a finite number", where=where, todo="give it a number")
    return made


def non_finite_keys(values: Any, key: tuple[str, ...] = ()) -> Iterator[str]:
    """The keys of numbers that are infinite or not a number.

    >>> list(non_finite_keys({"a": [1.0, float("inf")], "b": {"c": float("nan")}}))
    ['a.1', 'b.c']
    """
    if isinstance(values, float) and not math.isfinite(values):
        yield ".".join(key)
    elif isinstance(values, Mapping | list | tuple):
        items = values.items() if isinstance(values, Mapping) else enumerate(values)
        for name, value in items:
            yield from non_finite_keys(value, (*key, str(name)))


def _explain(cls: type[BaseModel], prefix: tuple[str, ...], problem: dict[str, Any]) -> str:
    loc: tuple[str | int, ...] = problem["loc"]
    key = ".".join(map(str, (*prefix, *loc))) or "the whole"
    if problem["type"] == "extra_forbidden":
        owner = _owner(cls, loc[:-1])
        return f"there is no key {key!r}: {did_you_mean(str(loc[-1]), owner)}"
    if problem["type"] in ("enum", "literal_error"):
        known = str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        return f"{key}={problem['input']!r} is not a choice: {did_you_mean(str(problem['input']), known)}"
    given = (
        "" if isinstance(problem["input"], Mapping) else f"={problem['input']!r}"
    )  # a whole group says nothing
    return f"{key}{given}: {problem['msg'].removeprefix('Value error, ')}"


def _owner(cls: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The keys of the model that ``loc`` leads to, through fields, mappings and unions."""
    here: Any = cls
    for part in loc:
        inner = (
            here.model_fields[part].annotation
            if _is_model(here) and part in here.model_fields
            else here
        )
        models = [m for m in _models_in(inner) if m is not here]
        here = models[0] if models else here
    return list(here.model_fields)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _models_in(kind: Any) -> list[Any]:
    return [kind] if _is_model(kind) else [m for inner in get_args(kind) for m in _models_in(inner)]
