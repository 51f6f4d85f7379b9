"""Base of the models of single rows: named inputs, the scored rows, one class only, saving."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field

from flowsheet.config import FrozenModel, Roles, list_roles
from flowsheet.errors import CheckFailed
from flowsheet.models._row_matrix import Matrix, RowMatrix, iterate_chunks, select_stays_of
from flowsheet.models.base import Context, Contributions, Model
from flowsheet.numerics import log_odds
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Floats, Floats32, Ints, Labels
from flowsheet.windows.roles import find_role
from flowsheet.windows.sequences import FEATURE_KINDS, Feature, FeatureKind, Sequences

if TYPE_CHECKING:
    from flowsheet.models._group import Group

_MAX_NAMES = 5
PRESENT: tuple[FeatureKind, ...] = ("value", "missing", "since", "treatment", "static", "time")
"""The groups of columns that say what the last values and doses are."""


def _split_kinds(value: Any) -> Any:
    """``all``, or groups joined by ``+``, among which ``present`` stands for all without a past."""
    if not isinstance(value, str) or value == "all":
        return value
    names = [list(PRESENT) if name == "present" else [name] for name in value.split("+")]
    return tuple(dict.fromkeys(name for group in names for name in group))


InputKinds = Annotated[
    Literal["all"] | Annotated[tuple[FeatureKind, ...], Field(min_length=1)],
    BeforeValidator(_split_kinds),
]
"""Groups of input columns: all, or some of ``FEATURE_KINDS``, in YAML also as ``present+window``.

As text they can be chosen by the tuning (``space``).
"""


class InputParams(FrozenModel):
    """Parameters of a model that takes the inputs of a row."""

    inputs: InputKinds = "all"
    """Groups of input columns that the model is given, such as ``present+derived``."""
    roles: Roles = "all"
    """Of these the columns with some roles only, such as ``physiology+patient`` or
    ``all-clock-process``; see :mod:`flowsheet.windows.roles`. Without ``process``, unknown values
    are replaced by typical ones: that they are unknown says what is measured."""


def find_inputs(sequences: Sequences, params: FrozenModel) -> list[int]:
    """Positions of the features that a model is given; all where its parameters do not say.

    Raises:
        CheckFailed: it is given none.
    """
    if not isinstance(params, InputParams):
        return list(range(len(sequences.features)))
    kinds = FEATURE_KINDS if params.inputs == "all" else params.inputs
    columns = sequences.columns(*kinds)
    if params.roles != "all":
        roles = list_roles(params.roles)
        columns = [i for i in columns if find_role(sequences.features[i]) in roles]
    if not columns and (params.inputs, params.roles) != ("all", "all"):
        found = dict.fromkeys(feature.kind for feature in sequences.features)
        found_roles = dict.fromkeys(find_role(feature) for feature in sequences.features)
        raise CheckFailed(
            "none of the features is in the groups that the model takes",
            where=f"inputs: {params.inputs}, roles: {params.roles}; groups of the features: "
            f"{', '.join(found) or 'none'}; their roles: {', '.join(found_roles) or 'none'}",
            todo="choose other groups (params.inputs, params.roles), or features that have these",
        )
    return columns


def choose_inputs(train: Sequences, params: FrozenModel) -> list[int]:
    """Positions of the features that a model is fitted on: those of its inputs that vary.

    What is the same in all training rows, mostly a drug or a measurement that no training subject
    has, says nothing. All are kept where none varies, or where the model needs certain ones.
    """
    given = find_inputs(train, params)
    if not isinstance(params, InputParams):
        return given
    return np.intersect1d(given, np.flatnonzero(train.varying)).tolist() or given


@dataclass(frozen=True)
class Rows:
    """The scored rows of some sequences."""

    x: RowMatrix  # (n, D)
    y: Labels  # (n,)
    subject: Ints  # (n,)

    @property
    def has_both_classes(self) -> bool:
        """Whether there are events and rows without one."""
        return bool(0 < self.y.sum() < len(self.y))


def base_rate(y: Labels) -> float:
    """Share of events, half an event added to each class so that it is never 0 or 1.

    >>> base_rate(np.array([0, 0, 1], dtype=np.int8)), base_rate(np.array([], dtype=np.int8))
    (0.375, 0.5)
    """
    return (float(y.sum()) + 0.5) / (len(y) + 1.0)


def input_names(sequences: Sequences) -> list[str]:
    """The inputs of each row: the features, then the lags of the response history."""
    history = [f"history:{j}" for j in range(sequences.history.shape[1])]
    return [feature.name for feature in sequences.features] + history


def check_inputs(expected: list[str], sequences: Sequences, model: str) -> None:
    """Check that the sequences have the inputs that the model was fitted on, in that order.

    Raises:
        CheckFailed: they differ; names those that are missing or unknown.
    """
    names = input_names(sequences)
    if names == expected:
        return
    missing = [name for name in expected if name not in names][:_MAX_NAMES]
    unknown = [name for name in names if name not in expected][:_MAX_NAMES]
    raise CheckFailed(
        f"{model} was fitted on {len(expected)} inputs; these sequences have {len(names)} others",
        where=f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
        todo="build the sequences with the features and the task that the model was trained with",
    )


@dataclass(frozen=True)
class RowContributions:
    """The log odds of n rows as sums over the columns of the model."""

    baseline: Floats  # (n,)
    log_odds: Floats  # (n,)
    values: Floats  # (n, D)


def explain_base_rate(rate: float, sequences: Sequences, rows: Ints) -> Contributions:
    """The contributions to a prediction that is the base rate: none."""
    return contribute_nothing(np.full(len(rows), rate), input_names(sequences), rows)


def contribute_nothing(risk: Floats, inputs: list[str], rows: Ints) -> Contributions:
    """The contributions to risks (n,) of these rows that no input has a part in."""
    baseline = log_odds(risk)
    return Contributions.of_rows(rows, baseline, baseline, np.zeros((len(rows), len(inputs))))


def reference_row(
    x: Matrix, origins: Ints | list[int], features: tuple[Feature, ...], group: Group | None = None
) -> Floats:
    """The row that explanations compare with: the mean row, but without any drug.

    Against the mean dose, every hour without a drug would be an effect of the drug.

    Args:
        x: Columns of the scored training rows (n, D); in a drug's column 0 is "not given".
        origins: The input that each column is made from (D,), a position among F + P.
        features: The F features.
        group: The processes that have a part of the rows each.
    """
    is_drug = [i < len(features) and features[i].kind == "treatment" for i in origins]
    sums = [part.sum(axis=0, dtype=np.float64) for _, part in iterate_chunks(x)]
    total, rows = np.sum(sums, axis=0), len(x)
    if group:
        total = group.gather(np.broadcast_to(total, (1, x.shape[1]))).sum(axis=0)
        rows = int(group.gather(np.array([rows])).sum())
    return np.where(is_drug, 0.0, total / rows)


def need_reference(reference: Floats | None, model: str) -> Floats:
    """The reference inputs.

    Raises:
        CheckFailed: an earlier release, which did not keep them, saved the model.
    """
    if reference is None:
        raise CheckFailed(
            "the model was saved without the reference inputs of explanations",
            where=model,
            todo="train it again with this release",
        )
    return reference


def _find_typical(x: RowMatrix) -> Floats32:
    """The median of the known values of each column; 0 without any."""
    medians = [
        np.median(column[~np.isnan(column)]) if not np.isnan(column).all() else 0.0
        for column in x.each_column()
    ]
    return np.array(medians, np.float32)


class RowModel(Model):
    """A model of single rows; a subclass defines their columns and fits them.

    With training rows of one class only (or none) every row gets the base rate.
    """

    uses_reference: ClassVar[bool] = True
    """Explanations compare a row with :func:`reference_row`."""
    keeps_constant: ClassVar[bool] = False
    """Whether inputs that are the same in all training rows are columns too."""
    reads_inputs: ClassVar[bool] = True
    """False: the columns are made without ``x``, which is then not read from its shards."""

    reference: Floats | None = None
    """The columns of that row (D,); None: not fitted, or not used."""
    inputs: list[str]
    selected: list[int] | None = None
    """Positions of the features that the model is given; None: saved by an earlier release."""
    typical: Floats32 | None = None
    """What replaces unknown values (D,), where that they are unknown is not to be seen."""
    rate: float
    fitted: bool
    """False: the training rows were of one class only, every row gets the base rate."""

    def matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """The columns of the chosen rows (None: all) of stays in memory, shape (n, D).

        They do not depend on other stays. These are x, then the history if ``params.history``.
        Unknown history is 0 where inputs are scaled, NaN where they are raw.
        """
        chosen: Any = slice(None) if rows is None else rows
        return self.append_history(np.asarray(sequences.x[chosen]), sequences, rows)

    def append_history(
        self, columns: Floats32, sequences: Sequences, rows: Ints | None = None
    ) -> Floats32:
        """The columns of the chosen rows, then the history if ``params.history``."""
        if not getattr(self.params, "history", False):
            return columns
        chosen: Any = slice(None) if rows is None else rows
        history = np.asarray(sequences.history[chosen], np.float32)
        if self.capabilities.scaled:
            history = np.nan_to_num(history)
        return np.concatenate([columns, history], axis=1)

    def columns(self, sequences: Sequences) -> list[str]:
        """The names of the columns of :meth:`matrix`."""
        names = input_names(sequences)
        return names if getattr(self.params, "history", False) else names[: len(sequences.features)]

    def scored_rows(self, sequences: Sequences) -> Rows:
        """The columns, labels and subjects of the scored rows."""
        rows = np.flatnonzero(sequences.scored)
        subject = np.repeat(sequences.subject_id, sequences.lengths)[rows]
        x = RowMatrix(sequences, rows, len(self.columns(sequences)), self._known_matrix)
        return Rows(x, np.asarray(sequences.y[rows]), subject)

    def _known_matrix(self, sequences: Sequences, rows: Ints | None = None) -> Floats32:
        """The columns of :meth:`matrix`, without unknown values where these are not to be seen."""
        x = self.matrix(sequences, rows)
        return x if self.typical is None else np.where(np.isnan(x), self.typical, x)

    def _hides_unknown(self) -> bool:
        """Whether the model is not given the process of care, but inputs that are not scaled."""
        roles: Roles = getattr(self.params, "roles", "all")
        return not self.capabilities.scaled and "process" not in list_roles(roles)

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        """Fit to the scored rows."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        self.adapt(train)
        self.inputs, self.typical = input_names(train), None
        choose = find_inputs if self.keeps_constant else choose_inputs
        self.selected = choose(train, self.params)
        train, valid = self._select_inputs(train), self._select_inputs(valid)
        self.terms = self.columns(train)
        y = train.y[train.scored]
        self.rate, self.fitted = base_rate(y), bool(0 < y.sum() < len(y))
        if not self.fitted:
            context.progress(
                f"warning: {int(y.sum())} events in {len(y)} training rows; "
                "every row gets the base rate"
            )
        with threadpool_limits(limits=context.threads):
            if self.fitted:
                rows = self.scored_rows(train)
                if self._hides_unknown():
                    self.typical = _find_typical(rows.x)  # from now on part of the columns
                if self.uses_reference:
                    self.reference = reference_row(rows.x, self.origins(train), train.features)
                self.fit_rows(rows, self.scored_rows(valid), context)

    def predict_proba(self, sequences: Sequences) -> Floats:
        """Probabilities from each row's own columns."""
        check_inputs(self.inputs, sequences, type(self).__name__)
        if not self.fitted:
            return np.full(sequences.rows, self.rate)
        blocks = (stays for _, stays in self._select_inputs(sequences).blocks())
        parts = [self.predict_rows(self._known_matrix(stays)) for stays in blocks]
        return np.concatenate([np.empty(0), *parts])

    def _select_inputs(self, sequences: Sequences) -> Sequences:
        """With the features that the model is given."""
        if not self.reads_inputs:
            return replace(sequences, x=np.empty((sequences.rows, 0), np.float32))
        selected = find_inputs(sequences, self.params) if self.selected is None else self.selected
        return sequences.select_features(selected)

    def origins(self, sequences: Sequences) -> Ints:
        """The input that each column of :meth:`matrix` is made from: a position among F + P."""
        return np.arange(len(self.columns(sequences)))

    def explain(self, sequences: Sequences, rows: Ints) -> Contributions:
        """What each input adds to the log odds, all columns that are made from it together."""
        check_inputs(self.inputs, sequences, type(self).__name__)
        if not self.fitted:
            return explain_base_rate(self.rate, sequences, rows)
        selected = self._select_inputs(sequences)
        by_column = self.explain_rows(self._known_matrix(*select_stays_of(selected, rows)))
        position_of = {name: i for i, name in enumerate(self.inputs)}
        position = np.array([position_of[name] for name in input_names(selected)])
        values = np.zeros((len(self.inputs), len(rows)))
        np.add.at(values, position[self.origins(selected)], by_column.values.T)
        return Contributions.of_rows(rows, by_column.baseline, by_column.log_odds, values.T)

    def save(self, folder: Path) -> None:
        """``model.json``, and the files of :meth:`write`."""
        values = {
            "params": self.params.model_dump(mode="json"),
            "inputs": self.inputs,
            "selected": self.selected,
            "typical": None if self.typical is None else self.typical.tolist(),
            "terms": self.terms,
            "rate": self.rate,
            "fitted": self.fitted,
            "reference": None if self.reference is None else self.reference.tolist(),
            "state": self.write(folder) if self.fitted else {},
        }
        write_json(folder / "model.json", values)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model of :meth:`save`."""
        saved = read_json(folder / "model.json")
        model = cls(cls.Params(**saved["params"]))
        model.inputs, model.terms = saved["inputs"], saved["terms"]
        model.selected = saved.get("selected")
        model.rate, model.fitted = saved["rate"], saved["fitted"]
        if saved.get("typical") is not None:
            model.typical = np.array(saved["typical"], np.float32)
        if saved.get("reference") is not None:
            model.reference = np.array(saved["reference"])
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
    def explain_rows(self, x: Floats32) -> RowContributions:
        """What each column adds to the log odds of each row, for rows of columns (n, D)."""

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """The fitted values as JSON; large arrays go into files of the folder."""

    @abstractmethod
    def read(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore what :meth:`write` returned."""
