"""Base of models that combine the log odds of other models, their members."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.config import FrozenModel, Name
from flowsheet.models._newton import sigmoid
from flowsheet.models.base import MODELS, Capabilities, Context, Contributions, Model, ModelFamily
from flowsheet.numerics import log_odds
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats, Ints
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences

_SMALLEST = 1e-9
"""Risks nearer to 0 or 1 count as this near: a single sure member does not decide alone."""


@dataclass(frozen=True)
class Member:
    """A fitted model with the scaling of its inputs."""

    kind: str
    model: Model
    scaler: Scaler | None

    @classmethod
    def fit(cls, kind: str, train: Sequences, valid: Sequences, context: Context) -> Self:
        """Fit a model with its default parameters.

        Args:
            kind: A registered model.
            train: Training stays, inputs as they are.
            valid: Validation stays, inputs as they are.
            context: Of the ensemble's fit.
        """
        model_class = MODELS.get(kind)
        return cls._fit(kind, model_class(model_class.Params()), train, valid, context)

    @classmethod
    def _fit(
        cls, kind: str, model: Model, train: Sequences, valid: Sequences, context: Context
    ) -> Self:
        scaler = Scaler.fit(train) if model.capabilities.scaled else None
        member = cls(kind, model, scaler)
        own_context = Context(context.seed, threads=context.threads, progress=context.progress)
        model.fit(member.scale(train), member.scale(valid), own_context)
        return member

    def refit(self, train: Sequences, valid: Sequences, context: Context) -> Self:
        """A member with the same parameters, fitted on other stays."""
        model = type(self.model)(self.model.params)
        return self._fit(self.kind, model, train, valid, context)

    @classmethod
    def load(cls, folder: Path, kind: str) -> Self:
        """The member in the folder of a model package, or of :meth:`save`."""
        scaler = folder / "scaler.json"
        return cls(
            kind,
            MODELS.get(kind).load(folder / "model"),
            Scaler.load(scaler) if scaler.exists() else None,
        )

    def save(self, folder: Path) -> None:
        """Write the model and its scaling into a new folder."""
        (folder / "model").mkdir(parents=True)
        self.model.save(folder / "model")
        if self.scaler is not None:
            self.scaler.save(folder / "scaler.json")

    def scale(self, sequences: Sequences) -> Sequences:
        """The sequences as the model takes them."""
        return self.scaler.transform(sequences) if self.scaler else sequences

    def predict_log_odds(self, sequences: Sequences) -> Floats:
        """Log odds of every row, shape (N,)."""
        return log_odds(self.model.predict_proba(self.scale(sequences)), _SMALLEST)

    def explain(self, sequences: Sequences, rows: Ints) -> Contributions:
        """What each input adds to the log odds."""
        return self.model.explain(self.scale(sequences), rows)


class Ensemble(Model):
    """The risk by a weighted sum of the members' log odds.

    In an experiment the members are models of the experiment, as they were tuned and fitted there.
    Elsewhere a member is a kind of model, and is fitted with its default parameters.
    """

    class Params(FrozenModel):
        """Parameters."""

        members: Annotated[tuple[Name, ...], Field(min_length=2)] = ("gradient_boosting", "gru")
        """Models of the experiment, or kinds of models."""

    capabilities = Capabilities(
        family=ModelFamily.reference, input_description="the risks of other models", scaled=False
    )
    version: ClassVar[int] = 1
    members: dict[str, Member]
    weights: Floats
    """(M,) of the members' log odds."""
    intercept: float

    @abstractmethod
    def fit_weights(
        self, train: Sequences, valid: Sequences, context: Context
    ) -> tuple[float, Floats]:
        """The intercept and the weights (M,) of the members, which are fitted."""

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Take the members from the context, or fit them; then weight them."""
        self.members = {}
        for name in self.params.members:
            if name in context.members:
                member = Member.load(context.members[name], _read_kind(context.members[name]))
            else:
                member = Member.fit(name, train, valid, context)
            self.members[name] = member
        self.intercept, self.weights = self.fit_weights(train, valid, context)

    def list_log_odds(self, sequences: Sequences) -> Floats:
        """The members' log odds of every row, shape (N, M)."""
        columns = [member.predict_log_odds(sequences) for member in self.members.values()]
        return np.stack(columns, axis=1)

    def predict_proba(self, sequences: Sequences) -> Floats:
        """The logistic function of the weighted sum."""
        eta = np.einsum("nm,m->n", self.list_log_odds(sequences), self.weights)
        return sigmoid(self.intercept + eta)

    def explain(self, sequences: Sequences, rows: Ints) -> Contributions:
        """The members' contributions, times their weights."""
        parts = [member.explain(sequences, rows) for member in self.members.values()]
        baselines = [w * part.baseline for w, part in zip(self.weights, parts, strict=True)]
        totals = [w * part.log_odds for w, part in zip(self.weights, parts, strict=True)]
        positions = [np.repeat(np.arange(len(rows)), np.diff(p.offsets)) for p in parts]
        prediction = np.concatenate(positions)
        used = np.concatenate([part.used_rows for part in parts])
        values = np.concatenate([w * p.values for w, p in zip(self.weights, parts, strict=True)])
        order = np.lexsort((used, prediction))
        counts = np.bincount(prediction, minlength=len(rows))
        return Contributions(
            rows=rows,
            baseline=self.intercept + np.sum(baselines, axis=0),
            log_odds=self.intercept + np.sum(totals, axis=0),
            values=values[order],
            used_rows=used[order],
            offsets=np.concatenate([[0], np.cumsum(counts)]),
        )

    @property
    def member_kinds(self) -> tuple[str, ...]:
        """The kinds of the members."""
        return tuple(dict.fromkeys(member.kind for member in self.members.values()))

    def save(self, folder: Path) -> None:
        """``model.json``, and a folder for each member."""
        values = {
            "params": self.params.model_dump(mode="json"),
            "kinds": {name: member.kind for name, member in self.members.items()},
            "intercept": self.intercept,
            "weights": self.weights.tolist(),
        }
        write_json(folder / "model.json", values)
        for name, member in self.members.items():
            member.save(folder / "members" / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model of :meth:`save`."""
        saved: dict[str, Any] = read_json(folder / "model.json")
        model = cls(cls.Params(**saved["params"]))
        model.members = {
            name: Member.load(folder / "members" / name, saved["kinds"][name])
            for name in model.params.members
        }
        model.intercept, model.weights = saved["intercept"], np.array(saved["weights"])
        return model

    def tables(self) -> dict[str, pl.DataFrame]:
        """``weights`` of the members."""
        kinds = [member.kind for member in self.members.values()]
        return {
            "weights": pl.DataFrame(
                {"member": list(self.members), "kind": kinds, "weight": self.weights}
            )
        }


def _read_kind(package: Path) -> str:
    return str(read_json(package / "package.json")["kind"])
