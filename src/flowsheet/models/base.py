"""What a model owes: sequences in, a probability for every row out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl

from flowsheet.config import FrozenModel, Response, Space
from flowsheet.plugins import Registry
from flowsheet.typing import Floats, Labels
from flowsheet.windows.sequences import Sequences


class ModelFamily(StrEnum):
    """Where a model stands on the ladder: what of the past it can see."""

    non_temporal = "non-temporal"
    autoregressive = "autoregressive"
    autoregressive_covariates = "autoregressive with covariates"
    recurrent = "recurrent"
    reference = "strong reference"


@dataclass(frozen=True)
class Capabilities:
    """What the platform must know of a model before it trains one."""

    family: ModelFamily
    input_description: str
    """In words, for ``flowsheet ls models``."""
    scaled: bool = True
    """Wants inputs scaled on the training subjects, without NaN; otherwise raw ones, NaN where nothing is known."""
    history: bool = False
    """Always uses the response history; other models may be offered it by configuration."""
    responses: frozenset[Response] = frozenset(Response)
    gpu: bool = False
    early_stopping: bool = False
    """Looks at the validation split while it fits."""


class Pruned(Exception):
    """Raised by ``Context.report_score`` when the tuner gives up on a fit; a model lets it pass."""


def _ignore(step: int, value: float) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """What surrounds a fit; nothing here changes the result but the seed."""

    seed: int
    device: str = "cpu"
    threads: int = 1
    score: Callable[[Labels, Floats], float] | None = None
    """The monitored metric, larger is better: (y, p) of the scored validation rows. None: minus log loss."""
    report_score: Callable[[int, float], None] = _ignore
    """Told (epoch or round, score) while fitting; may raise :class:`Pruned`."""
    progress: Callable[[str], None] = field(default=lambda line: None)
    """Told a line worth showing."""
    checkpoints: Path | None = None
    """A folder that survives a kill: a fit with the same parameters goes on from its last checkpoint there."""


class Model(ABC):
    """One model. A new model is one new module in this package:

    ``@MODELS.register("name")`` on a subclass, ``Params`` with a documented default each, a
    ``space`` of plain data, and ``flowsheet.testing.models.ModelConformance`` subclassed in a test.

    Rows that are not ``scored`` must not influence the loss; their inputs are still part of the
    past.
    """

    capabilities: ClassVar[Capabilities]
    Params: ClassVar[type[FrozenModel]]
    space: ClassVar[Space] = {}
    version: ClassVar[int] = 1
    """Raise it when the same parameters and data give other numbers."""

    def __init__(self, params: Any) -> None:
        """``params`` is an instance of ``Params``."""
        self.params = params

    @abstractmethod
    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Fit on ``train``; ``valid`` serves early stopping and calibration only.

        Raises:
            CheckFailed: the task is one that the model cannot be fitted to (says why).
        """

    @abstractmethod
    def predict_proba(self, sequences: Sequences) -> Floats:
        """Probability of y = 1 for every row, shape (N,), finite, each from its own and earlier rows only."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what ``load`` needs into an existing folder, without pickles."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """The fitted model back; its predictions are bit for bit the same."""

    def tables(self) -> dict[str, pl.DataFrame]:
        """What a reader of the run would like to see: coefficients, importances, training curve."""
        return {}


MODELS: Registry[Model] = Registry("model", "flowsheet.models")
