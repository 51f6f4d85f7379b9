"""A clock: the risk by the time since admission, and nothing about the patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.config import FrozenModel
from flowsheet.models._rows import RowContributions, RowModel, Rows, contribute_nothing
from flowsheet.models.base import MODELS, Capabilities, Context, Contributions, ModelFamily
from flowsheet.numerics import log_loss, log_odds
from flowsheet.typing import Floats, Floats32, Ints
from flowsheet.windows.sequences import Sequences

Shape = Literal["auto", "binned", "rising", "falling"]


@dataclass(frozen=True)
class _Curve:
    """Constant between ascending steps: up to and including ``last[i]`` the risk is ``risk[i]``."""

    last: Floats
    risk: Floats

    def __call__(self, step: Floats) -> Floats:
        """The risk at each step; after the last one it stays as it is."""
        return self.risk[np.minimum(np.searchsorted(self.last, step), len(self.last) - 1)]


@MODELS.register("clock")
class Clock(RowModel):
    """The share of the training rows with the event at each step, for the task's own horizon.

    Whoever stays longer differs from those who have left, so that a good part of what models
    achieve is told by the clock alone: on PhysioNet 2019 "alert everybody from hour 52 on" has a
    normalised utility of 0.31. What a model is worth lies above that.

    Neighbouring steps share a bin until ``least_events`` subjects have the event in it. With
    ``rising`` or ``falling`` the bins are fitted by isotonic regression (Barlow et al. 1972,
    Statistical Inference under Order Restrictions).
    """

    title = "Clock"

    class Params(FrozenModel):
        """Parameters."""

        shape: Shape = "auto"
        """A risk for each bin, or one that only rises or only falls with time; auto: whichever has
        the smallest log loss on the validation split, and without one ``binned``."""
        least_events: Annotated[int, Field(ge=1)] = 20
        """Subjects with the event in a bin, at least."""

    capabilities = Capabilities(
        family=ModelFamily.floor, input_description="time since admission", scaled=False
    )
    uses_reference: ClassVar[bool] = False
    reads_inputs: ClassVar[bool] = False
    curve: _Curve

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """One column: the step, counted from 1 at admission."""
        chosen: Any = slice(None) if rows is None else rows
        return np.asarray(sequences.step[chosen], np.float32)[:, None]

    def columns(self, sequences: Sequences) -> list[str]:
        """The name of the only column."""
        return ["step"]

    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Count rows and events by step."""
        binned = _fit_bins(train, self.params.least_events)
        shape = self.params.shape
        shapes = ("binned", "rising", "falling") if shape == "auto" else (shape,)
        curves = [_constrain(binned, train, shape) for shape in shapes]
        self.curve = curves[0]
        if len(valid.y):
            losses = [log_loss(valid.y, curve(_read_steps(valid))) for curve in curves]
            self.curve = curves[int(np.argmin(losses))]

    def predict_rows(self, x: Floats32) -> Floats:
        """The risk at each row's step."""
        return self.curve(x[:, 0].astype(np.float64))

    def explain(self, sequences: Sequences, rows: Ints) -> Contributions:
        """No input contributes: the time since admission is all that there is."""
        return contribute_nothing(self.predict_proba(sequences)[rows], self.inputs, rows)

    def explain_rows(self, x: Floats32) -> RowContributions:
        """No column contributes."""
        risk = log_odds(self.predict_rows(x))
        return RowContributions(risk, risk, np.zeros(x.shape))

    def write(self, folder: Path) -> dict[str, Any]:
        """The curve."""
        return {"last": self.curve.last.tolist(), "risk": self.curve.risk.tolist()}

    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore what :meth:`write` returned."""
        self.curve = _Curve(np.array(state["last"]), np.array(state["risk"]))

    def tables(self) -> dict[str, pl.DataFrame]:
        """``risk_by_step``: the last step of each bin and its risk."""
        if not self.fitted:
            return {}
        return {
            "risk_by_step": pl.DataFrame(
                {"last_step": self.curve.last.astype(np.int64), "risk": self.curve.risk}
            )
        }


def _read_steps(rows: Rows) -> Floats:
    return rows.x.columns(slice(1))[:, 0].astype(np.float64)


def _fit_bins(rows: Rows, least_events: int) -> _Curve:
    """Steps in bins with enough subjects with the event, and the bins' shares of events."""
    steps, index = np.unique(_read_steps(rows), return_inverse=True)
    counts = np.bincount(index)
    events = np.bincount(index, rows.y)
    subjects_with_event = np.bincount(
        np.unique(np.stack([index, rows.subject])[:, rows.y == 1], axis=1)[0],
        minlength=len(steps),
    )
    ends = _end_bins(subjects_with_event, least_events)
    starts = np.concatenate([[0], ends[:-1] + 1])
    risk = (np.add.reduceat(events, starts) + 0.5) / (np.add.reduceat(counts, starts) + 1.0)
    return _Curve(steps[ends], risk)


def _end_bins(events: Ints, least: int) -> Ints:
    """The position of the last step of each bin; a last bin with too few joins the one before."""
    ends: list[int] = []
    total = 0
    for position, count in enumerate(events):
        total += int(count)
        if total >= least:
            ends.append(position)
            total = 0
    last = len(events) - 1
    return np.array([*ends[:-1], last] if ends else [last], np.int64)


def _constrain(curve: _Curve, rows: Rows, shape: str) -> _Curve:
    """The curve that only rises or only falls and is closest to the bins."""
    if shape == "binned":
        return curve
    from scipy.optimize import isotonic_regression

    bins = np.minimum(np.searchsorted(curve.last, _read_steps(rows)), len(curve.last) - 1)
    weight = np.bincount(bins, minlength=len(curve.last)).astype(np.float64)
    fitted = isotonic_regression(curve.risk, weights=weight, increasing=shape == "rising")
    return _Curve(curve.last, np.asarray(fitted.x, np.float64))
