"""Gradient-boosted trees on lagged features: a strong reference for tabular data."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from flowsheet.cohort import catalogue
from flowsheet.config import FloatRange, IntRange, Space
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.models._lags import Lags
from flowsheet.models._monotone import find_directions
from flowsheet.models._rows import InputParams, RowContributions, RowModel, Rows
from flowsheet.models.base import MODELS, Capabilities, Context, ModelFamily
from flowsheet.numerics import log_loss
from flowsheet.progress import ProgressLine
from flowsheet.typing import Floats, Floats32, Ints
from flowsheet.windows.sequences import Sequences

if TYPE_CHECKING:
    from lightgbm import Booster, Dataset

Steps = tuple[Annotated[int, Field(ge=1)], ...]

_VALIDATION_ROUNDS = 5  # rounds from one validation to the next
BIN_SAMPLE_ROWS = 20_000
"""Rows of which the bins are chosen; of more, a sample."""
PRE_FILTER_ROWS = 20
"""Rows of a leaf by which LightGBM leaves out columns that it cannot split, where it reads rows in
batches: it does not know ``min_data_in_leaf`` then."""


@MODELS.register("gradient_boosting")
class GradientBoosting(RowModel):
    """LightGBM on the current row and on lagged features of the stay (see :mod:`._lags`).

    Inputs are raw: each split learns the branch of unknown values. Trees are added until the log
    loss on the validation split has not decreased for ``patience`` rounds, and the best number of
    trees is used; without validation rows of both classes all ``rounds`` are. The metric that the
    tuner monitors only chooses between trials: a ranking metric leaps from round to round, and
    stopping by it ends too early, with probabilities that are too moderate.
    """

    title = "Gradient-boosted trees"

    class Params(InputParams):
        """Parameters."""

        rounds: Annotated[int, Field(ge=1)] = 500
        """Trees, at most."""
        patience: Annotated[int, Field(ge=1)] = 50
        """Rounds without a smaller log loss before training stops."""
        learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
        leaves: Annotated[int, Field(ge=2)] | None = None
        """Leaves of a tree, at most; null: by the size of the cohort."""
        min_leaf: Annotated[int, Field(ge=1)] = 200
        """Rows of a leaf, at least (a twentieth of all rows, if that is less)."""
        feature_fraction: Annotated[float, Field(gt=0, le=1)] = 0.4
        """Share of the features offered to each tree."""
        row_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
        """Share of the rows that each tree learns from, drawn anew for every tree; null: all, or a
        million of more."""
        extra_trees: bool = False
        """Split each feature at a random value (extremely randomised trees, Geurts et al. 2006,
        doi 10.1007/s10994-006-6226-1): less variance, which pays where the rows are few."""
        l2: Annotated[float, Field(ge=0)] = 10.0
        """Penalty on the leaves' values."""
        max_bin: Annotated[int, Field(ge=7, le=255)] = 63
        """Histogram bins of a feature."""
        changes: Steps = (1, 4, 12)
        """Changes of values and doses over these numbers of steps."""
        statistics: Steps = ()
        """Mean, standard deviation and extremes of windows of these numbers of steps."""
        counts: Steps = (24,)
        """Counts of measurements and mean doses in windows of these numbers of steps."""
        history: bool = False
        """Take the known past responses as inputs (unknown ones as missing)."""
        rising: tuple[str, ...] = ()
        """Variables of the catalogue whose higher values may only raise the risk."""
        falling: tuple[str, ...] = ()
        """Variables of the catalogue whose higher values may only lower it."""
        monotone: bool = True
        """Whether ``rising`` and ``falling`` hold, so that the tuning may choose."""

        @model_validator(mode="after")
        def _check_directions(self) -> Self:
            known = catalogue.variables()
            for name in (*self.rising, *self.falling):
                if name not in known:
                    hint = did_you_mean(name, known)
                    raise ValueError(f"the catalogue has no variable {name!r}: {hint}")
            both = sorted(set(self.rising) & set(self.falling))
            if both:
                raise ValueError(f"{', '.join(both)} cannot be rising and falling at once")
            return self

    capabilities = Capabilities(
        family=ModelFamily.reference,
        input_description="the current row; lags, trends, counts",
        scaled=False,
        early_stopping=True,
        distributed=True,
    )
    space: ClassVar[Space] = {
        "learning_rate": FloatRange(low=0.02, high=0.2, log=True),
        "leaves": IntRange(low=7, high=63, log=True),
        "min_leaf": IntRange(low=20, high=1000, log=True),
        "feature_fraction": FloatRange(low=0.2, high=1.0),
        "l2": FloatRange(low=0.1, high=100.0, log=True),
    }

    size_rules = MappingProxyType(
        {"leaves": lambda size: size.leaves, "row_fraction": lambda size: size.row_fraction}
    )
    version = 6
    saved_version = 3
    uses_reference = False
    kept_bytes = 2.5  # a byte for each column in binned form, of which lags make more
    block_bytes = 4_000_000  # the sample of rows that the bins are chosen on
    booster: Booster
    curve: list[tuple[int, float]]

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """Inputs and lagged features, then the history if ``params.history``."""
        return self.append_history(self._lags.matrix(sequences, rows), sequences, rows)

    def columns(self, sequences: Sequences) -> list[str]:
        """The names of the columns of :meth:`matrix`."""
        history = super().columns(sequences)[len(sequences.features) :]
        return self._lags.names(sequences.features) + history

    def origins(self, sequences: Sequences) -> Ints:
        """Lags, trends and counts of an input are made from it."""
        lagged = self._lags.origins(sequences.features)
        features, columns = len(sequences.features), len(self.columns(sequences))
        return np.concatenate([lagged, features + np.arange(columns - len(lagged))])

    @property
    def _lags(self) -> Lags:
        return Lags(self.params.changes, self.params.statistics, self.params.counts)

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Add trees; the same seed gives the same trees, whatever the number of threads.

        In a group the histograms of all its processes are summed.
        """
        lightgbm = _lightgbm()
        settings, group = self._settings(len(train.y), context), context.group
        from flowsheet.models._binned_rows import bin_parts, bin_rows
        from flowsheet.models._distributed_rows import (
            choose_bins,
            joined_boosters,
            take_part,
            without_addresses,
        )

        bins = choose_bins(train, settings, group) if group else None
        data = bin_rows(take_part(train, group), settings, reference=bins)
        with joined_boosters(group) as network:
            booster: Booster = lightgbm.Booster(settings | network, data)
            stopping = None
            if valid.has_both_classes:
                for number, part in enumerate(bin_parts(take_part(valid, group), settings, data)):
                    booster.add_valid(part, f"valid {number}")
                stopping = _EarlyStopping(valid, context, self.params)
            _boost(booster, self.params.rounds, stopping)
            if group:
                booster.free_network()
        trees = stopping.best_round if stopping else self.params.rounds
        self.curve = stopping.curve if stopping else []
        text = without_addresses(booster.model_to_string(num_iteration=trees))
        self.booster = lightgbm.Booster(model_str=text)

    def predict_rows(self, x: Floats32) -> Floats:
        """The logistic function of the sum of the trees."""
        return np.asarray(self.booster.predict(x), dtype=np.float64) if len(x) else np.empty(0)

    def explain_rows(self, x: Floats32) -> RowContributions:
        """TreeSHAP (Lundberg et al. 2020, doi 10.1038/s42256-019-0138-9) as LightGBM computes it.

        The baseline is the mean of the trees over their training rows.
        """
        contributions = np.zeros((0, x.shape[1] + 1))
        if len(x):
            contributions = np.asarray(self.booster.predict(x, pred_contrib=True), np.float64)
        values, baseline = contributions[:, :-1], contributions[:, -1]
        return RowContributions(baseline, baseline + values.sum(axis=1), values)

    def write(self, folder: Path) -> dict[str, Any]:
        """The trees in LightGBM's text format."""
        (folder / "trees.txt").write_text(self.booster.model_to_string(), encoding="utf-8")
        return {"curve": self.curve}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore what :meth:`write` returned."""
        self.booster = _lightgbm().Booster(
            model_str=(folder / "trees.txt").read_text(encoding="utf-8")
        )
        self.curve = [(int(rounds), float(score)) for rounds, score in state["curve"]]

    def tables(self) -> dict[str, pl.DataFrame]:
        """``importances`` (loss reduction, splits), ``training_curve`` (minus log loss)."""
        if not self.fitted:
            return {}
        importances = pl.DataFrame(
            {
                "feature": self.terms,
                "gain": self.booster.feature_importance("gain"),
                "splits": self.booster.feature_importance("split"),
            }
        )
        schema = {"round": pl.Int64, "validation_score": pl.Float64}
        return {
            "importances": importances.sort("gain", "feature", descending=[True, False]),
            "training_curve": pl.DataFrame(self.curve, schema=schema, orient="row"),
        }

    def _settings(self, rows: int, context: Context) -> dict[str, Any]:
        p = self.params
        min_leaf = max(1, min(p.min_leaf, rows // 20))
        return {
            "objective": "binary",
            "learning_rate": p.learning_rate,
            "num_leaves": p.leaves,
            "min_data_in_leaf": min_leaf,
            "feature_pre_filter": min_leaf >= PRE_FILTER_ROWS,
            "feature_fraction": p.feature_fraction,
            "bagging_fraction": p.row_fraction,
            "bagging_freq": int(p.row_fraction < 1),
            "extra_trees": p.extra_trees,
            "lambda_l2": p.l2,
            "max_bin": p.max_bin,
            "min_data_in_bin": 1,
            "bin_construct_sample_cnt": BIN_SAMPLE_ROWS,
            "metric": "none",
            "seed": context.seed,
            "data_random_seed": context.seed,
            **self._constraints(),
            "num_threads": context.threads,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        }

    def _constraints(self) -> dict[str, Any]:
        p = self.params
        if not p.monotone or not (p.rising or p.falling):
            return {}
        return {"monotone_constraints": find_directions(self.terms, p.rising, p.falling)}


class _EarlyStopping:
    """Validates every few rounds, reports the score to the tuner and remembers the best round."""

    def __init__(self, valid: Rows, context: Context, params: GradientBoosting.Params) -> None:
        from flowsheet.models._distributed_rows import own_positions

        self.y, self.context, self.params = valid.y, context, params
        self.own = own_positions(valid, context.group)
        self.best_round, self.best_score = 0, -np.inf
        self.curve: list[tuple[int, float]] = []

    def should_stop(self, booster: Booster, rounds: int) -> bool:
        """Validate the trees so far; true if the best log loss is ``patience`` rounds old."""
        p = _predict_valid(booster)
        if self.context.group:
            p = self.context.group.gather_in_order(self.own, p)
        fit = -log_loss(self.y, p)
        self.curve.append((rounds, fit))
        monitored = self._monitored(p, fit)
        self.context.report_score(rounds, monitored)
        text = f"round {rounds}: log loss {-fit:.4f} on the validation split"
        self.context.progress(ProgressLine(text, "round", rounds, self.params.rounds, monitored))
        if fit > self.best_score:
            self.best_round, self.best_score = rounds, fit
        return rounds - self.best_round >= self.params.patience

    def _monitored(self, p: Floats, fit: float) -> float:
        """The score by which the tuner compares trials; ``fit`` where it is not defined."""
        score = self.context.score(self.y, p) if self.context.score else np.nan
        return float(score) if np.isfinite(score) else fit


def _predict_valid(booster: Booster) -> Floats:
    """Probabilities of the validation rows, which LightGBM keeps from tree to tree."""
    probabilities = [np.empty(0)]

    def keep(p: Floats, data: Dataset) -> tuple[str, float, bool]:
        probabilities.append(p)
        return ("none", 0.0, True)

    booster.eval_valid(keep)
    return np.concatenate(probabilities, dtype=np.float64)


def _boost(booster: Booster, rounds: int, stopping: _EarlyStopping | None) -> None:
    for done in range(1, rounds + 1):
        is_finished = booster.update()  # no further split is possible
        is_validated = done % _VALIDATION_ROUNDS == 0 or done == rounds or is_finished
        if stopping and is_validated and stopping.should_stop(booster, done):
            break
        if is_finished:
            break


def _lightgbm() -> Any:
    """Import LightGBM.

    Raises:
        UsageError: the OpenMP runtime that it needs is not installed.
    """
    try:
        import lightgbm
    except OSError as error:
        raise UsageError(
            "LightGBM cannot be loaded",
            where=str(error),
            todo="install the OpenMP runtime (Debian: apt install libgomp1)",
        ) from error
    return lightgbm
