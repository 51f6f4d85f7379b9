"""The interface of every model: sequences in, a probability for every row out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl

from flowsheet.config import ComputeConfig, FrozenModel, ModelConfig, Space, Target
from flowsheet.errors import UsageError
from flowsheet.models._cohort_size import CohortSize, Rule, apply_rules
from flowsheet.plugins import Registry
from flowsheet.typing import Floats, Ints, Labels
from flowsheet.windows.sequences import Sequences

if TYPE_CHECKING:
    from flowsheet.models._group import Group


class ModelFamily(StrEnum):
    """The families of the ladder, by how much of the past they use; the floor learns no weights."""

    floor = "floor"
    non_temporal = "non-temporal"
    autoregressive = "autoregressive"
    autoregressive_covariates = "autoregressive with covariates"
    recurrent = "recurrent"
    reference = "strong reference"


@dataclass(frozen=True)
class Capabilities:
    """What the platform must know about a model before training."""

    family: ModelFamily
    input_description: str
    """For ``flowsheet ls models``, the report and the model card."""
    scaled: bool = True
    """Inputs are scaled on the training subjects, without NaN; otherwise raw, NaN where unknown."""
    history: bool = False
    """Always uses the response history; other models use it if configured."""
    targets: frozenset[Target] = frozenset(Target)
    gpu: bool = False
    early_stopping: bool = False
    """Uses the validation split during the fit."""
    distributed: bool = False
    """Several processes can train it together (``Context.group``)."""


class Pruned(Exception):
    """The tuner prunes the trial; raised by ``Context.report_score``, and not caught by models."""


def _ignore(step: int, value: float) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """The circumstances of a fit; only the seed changes the result.

    A group changes the order of sums, and thereby the last digits.
    """

    seed: int
    device: str = "cpu"
    threads: int = 1
    score: Callable[[Labels, Floats], float] | None = None
    """The monitored metric, larger is better, of (y, p) of the scored validation rows. None: minus
    log loss."""
    report_score: Callable[[int, float], None] = _ignore
    """Called with (epoch or round, score) during the fit; may raise ``Pruned``."""
    progress: Callable[[str], None] = field(default=lambda line: None)
    """Called with a line to show to the user."""
    members: Mapping[str, Path] = field(default_factory=dict)
    """By name the packages of models of the experiment that a model is made of."""
    checkpoints: Path | None = None
    """A folder that survives a kill: a fit with the same parameters resumes from its checkpoint."""
    group: Group | None = None
    """The processes that run this fit together, each in a context of its own; None: this one."""


@dataclass(frozen=True)
class Contributions:
    """The log odds of R predictions, each the sum of a baseline and of what its inputs add.

    The inputs are the F features and the P lags of the response history. A prediction uses them as
    its own row has them and, if the model has a memory, as earlier rows of the stay had them; M
    such rows in all. ``log_odds`` is ``baseline`` plus all ``values`` of the prediction.
    """

    rows: Ints  # (R,) the explained rows, ascending
    baseline: Floats  # (R,) log odds at the model's reference inputs
    log_odds: Floats  # (R,) log odds that the model predicts
    values: Floats  # (M, F + P) log odds that each input adds
    used_rows: Ints  # (M,) the row that the inputs of each line of ``values`` come from
    offsets: Ints  # (R + 1,) the lines of prediction r are ``offsets[r]:offsets[r + 1]``

    @classmethod
    def of_rows(cls, rows: Ints, baseline: Floats, log_odds: Floats, values: Floats) -> Self:
        """The contributions to a model that uses nothing but a prediction's own row.

        Args:
            rows: The explained rows (R,).
            baseline: Log odds at the reference inputs (R,).
            log_odds: Predicted log odds (R,).
            values: What each input adds (R, F + P).
        """
        return cls(rows, baseline, log_odds, values, rows, np.arange(len(rows) + 1))

    @property
    def totals(self) -> Floats:
        """What each input adds, over all the rows that are used, shape (R, F + P)."""
        if not len(self.rows):
            return np.zeros((0, self.values.shape[1]))
        return np.asarray(np.add.reduceat(self.values, self.offsets[:-1], axis=0))


class Model(ABC):
    """Base class of all models.

    A new model is one new module in this package: ``@MODELS.register("name")`` on a subclass,
    ``Params`` with documented defaults, a search ``space`` as plain data, a ``title`` for people,
    and a test class derived from ``flowsheet.testing.models.ModelConformance``.

    Rows that are not ``scored`` must not influence the loss; their inputs are still part of the
    past.
    """

    title: ClassVar[str] = ""
    """What people call it, in reports and tables; empty: its registered name."""
    capabilities: ClassVar[Capabilities]
    Params: ClassVar[type[FrozenModel]]
    space: ClassVar[Space] = {}
    version: ClassVar[int] = 1
    """To be increased when the same parameters and data give other numbers: it is trained again."""
    saved_version: ClassVar[int] = 1
    """To be increased when a saved model has other files, or predicts other numbers from them.

    A model that another release has trained otherwise is loaded; one that was saved otherwise is
    refused.
    """
    kept_bytes: ClassVar[float] = 0.0
    """What a fit keeps in memory for each input of each row, however the inputs are read."""
    block_bytes: ClassVar[int] = 1_500_000
    """What the blocks of rows that are read and computed with at a time take for each input."""

    size_rules: ClassVar[Mapping[str, Rule]] = {}
    """Of each parameter whose default is None: its value by the size of the cohort."""

    def __init__(self, params: Any) -> None:
        """``params`` is an instance of ``Params``."""
        self.params = self._given_params = params

    def adapt(self, train: Sequences) -> None:
        """Set the parameters that are not given by the size of the training cohort."""
        suggested = self.suggest(train)
        given = self._given_params
        missing = {name: suggested[name] for name in suggested if getattr(given, name) is None}
        self.params = given.model_copy(update=missing)

    @classmethod
    def suggest(cls, train: Sequences) -> dict[str, Any]:
        """The default parameters for the size of the training cohort."""
        return apply_rules(cls.size_rules, CohortSize.of(train)) if cls.size_rules else {}

    @abstractmethod
    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Fit on ``train``; ``valid`` is used for early stopping and calibration only.

        Raises:
            CheckFailed: the model cannot be fitted to the task; the message gives the reason.
        """

    @abstractmethod
    def predict_proba(self, sequences: Sequences) -> Floats:
        """Probability of y = 1 for every row, shape (N,), finite.

        It depends only on the row itself and on earlier rows of its stay.
        """

    def explain(self, sequences: Sequences, rows: Ints) -> Contributions:
        """What each input adds to the log odds of these rows, which are given in ascending order.

        A model without a better way of its own explains by its predictions alone, at the price of
        two predictions for each input.
        """
        from flowsheet.models._replacement import explain_by_replacement

        return explain_by_replacement(self, sequences, rows)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all that ``load`` needs into an existing folder, without pickles."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """The fitted model; its predictions are the same to the last bit."""

    @classmethod
    def describe_title(cls, config: ModelConfig) -> str:
        """The title of the model as it is configured, such as AR(2) where p is 2."""
        return cls.title

    @property
    def member_kinds(self) -> tuple[str, ...]:
        """The kinds of the models that this one contains, whose code it needs."""
        return ()

    def tables(self) -> dict[str, pl.DataFrame]:
        """Tables for the report: coefficients, importances, training curve."""
        return {}


MODELS: Registry[Model] = Registry("model", "flowsheet.models")


def count_processes(compute: ComputeConfig, kind: str) -> int:
    """How many processes train a model of this kind together."""
    return compute.processes_per_training if MODELS.get(kind).capabilities.distributed else 1


def list_titles(models: Mapping[str, ModelConfig]) -> dict[str, str]:
    """What people call each model of an experiment.

    A model that the experiment gives a name of its own keeps it, and so does one without a title.

    >>> list_titles({"lstm": ModelConfig(kind="lstm"), "small": ModelConfig(kind="lstm")})
    {'lstm': 'LSTM', 'small': 'small'}
    """
    return {name: _find_title(name, config) for name, config in models.items()}


def _find_title(name: str, config: ModelConfig) -> str:
    if name != config.kind:
        return name
    try:
        return MODELS.get(name).describe_title(config) or name
    except UsageError:  # a plug-in that is not installed here
        return name
