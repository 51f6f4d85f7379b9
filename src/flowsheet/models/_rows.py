"""What models share that look at one row at a time: inputs by name, the scored rows, one class, saving."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from flowsheet.errors import CheckFailed
from flowsheet.models.base import Context, Model
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats, Floats32, Ints, Labels
from flowsheet.windows.sequences import Sequences

_SHOWN = 5


@dataclass(frozen=True)
class Rows:
    """The scored rows of some sequences as a plain table."""

    x: Floats32  # (n, D)
    y: Labels  # (n,)
    subject: Ints  # (n,)

    @property
    def both_classes(self) -> bool:
        """Whether there are events and rows without one."""
        return bool(0 < self.y.sum() < len(self.y))


def base_rate(y: Labels) -> float:
    """Share of events, half an event added to each class so that it is never 0 or 1.

    >>> base_rate(np.array([0, 0, 1], dtype=np.int8)), base_rate(np.array([], dtype=np.int8))
    (0.375, 0.5)
    """
    return (float(y.sum()) + 0.5) / (len(y) + 1.0)


def input_names(sequences: Sequences) -> list[str]:
    """What a model is given for each row: the features, then the lags of the response history."""
    return [f.name for f in sequences.features] + [
        f"history:{j}" for j in range(sequences.history.shape[1])
    ]


def check_inputs(expected: list[str], sequences: Sequences, model: str) -> None:
    """Raise unless the sequences have the inputs that the model was fitted on, in that order.

    Raises:
        CheckFailed: names what is missing and what is not known.
    """
    given = input_names(sequences)
    if given == expected:
        return
    missing = [n for n in expected if n not in given][:_SHOWN]
    unknown = [n for n in given if n not in expected][:_SHOWN]
    raise CheckFailed(
        f"{model} was fitted on {len(expected)} inputs and is given {len(given)} that are not the same",
        where=f"missing: {', '.join(missing) or 'none'}; not known: {', '.join(unknown) or 'none'}",
        todo="make the sequences with the features and the task that the model was trained with",
    )


class RowModel(Model):
    """A model of single rows; a subclass says which columns they have and fits a table of them.

    With training rows of one class only (or none) every row gets the base rate.
    """

    inputs: list[str]
    rate: float
    fitted: bool
    """False: one class only was seen, the base rate is all there is to say."""

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """The columns of the chosen rows (None: all), shape (n, D): x, then the history where asked
        for.

        Unknown history is 0 where inputs are scaled (0 is then "as usual"), NaN where they are raw.
        """
        chosen: Any = slice(None) if rows is None else rows
        x = np.asarray(sequences.x[chosen])
        if not getattr(self.params, "history", False):
            return x
        history = np.asarray(sequences.history[chosen])
        known = np.nan_to_num(history) if self.capabilities.scaled else history
        return np.concatenate([x, known.astype(np.float32)], axis=1)

    def columns(self, sequences: Sequences) -> list[str]:
        """The names of the columns of :meth:`matrix`."""
        names = input_names(sequences)
        return names if getattr(self.params, "history", False) else names[: len(sequences.features)]

    def scored(self, sequences: Sequences) -> Rows:
        """The scored rows as a table."""
        rows = np.flatnonzero(sequences.scored)
        subject = np.repeat(sequences.subject_id, sequences.lengths)[rows]
        return Rows(self.matrix(sequences, rows), np.asarray(sequences.y[rows]), subject)

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Fit the table of scored rows."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        self.inputs, self.terms = input_names(train), self.columns(train)
        y = train.y[train.scored]
        self.rate, self.fitted = base_rate(y), bool(0 < y.sum() < len(y))
        if not self.fitted:
            context.progress(
                f"warning: {int(y.sum())} events in {len(y)} training rows; every row gets the base rate"
            )
        with threadpool_limits(limits=context.threads):
            if self.fitted:
                self.fit_rows(self.scored(train), self.scored(valid), context)

    def predict_proba(self, sequences: Sequences) -> Floats:
        """Probabilities from each row's own columns."""
        check_inputs(self.inputs, sequences, type(self).__name__)
        if not self.fitted:
            return np.full(sequences.rows, self.rate)
        return self.predict_rows(self.matrix(sequences))

    def save(self, folder: Path) -> None:
        """``model.json``, and whatever :meth:`write` adds."""
        parts = {
            "params": self.params.model_dump(mode="json"),
            "inputs": self.inputs,
            "terms": self.terms,
        }
        state = self.write(folder) if self.fitted else {}
        write_json(
            folder / "model.json",
            {**parts, "rate": self.rate, "fitted": self.fitted, "state": state},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model of :meth:`save`."""
        saved = read_json(folder / "model.json")
        model = cls(cls.Params(**saved["params"]))
        model.inputs, model.terms = saved["inputs"], saved["terms"]
        model.rate, model.fitted = saved["rate"], saved["fitted"]
        if model.fitted:
            model.read(folder, saved["state"])
        return model

    @abstractmethod
    def fit_rows(self, train: Rows, valid: Rows, context: Context) -> None:
        """Fit on rows of both classes; ``valid`` may be empty or of one class."""

    @abstractmethod
    def predict_rows(self, x: Floats32) -> Floats:
        """Probability of y = 1 for each row of columns, shape (n,)."""

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """What was learned, as JSON; larger things go into files of the folder."""

    @abstractmethod
    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Take back what :meth:`write` gave."""
