"""The search space of a model: fixed parameters, ranges to draw from, and the first trial."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from flowsheet.config import (
    Choice,
    FloatRange,
    FrozenModel,
    IntRange,
    ModelConfig,
    Range,
    non_finite_keys,
)
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.models.base import MODELS, Model
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class Search:
    """A model's parameters: fixed values, and ranges to draw from."""

    kind: str
    model: type[Model]
    fixed: dict[str, Any]
    ranges: dict[str, Range]
    """Sorted by name, so that the same seed draws the same values."""
    suggested: dict[str, Any] = field(default_factory=dict)
    """Defaults by the size of the cohort."""

    def for_cohort(self, train: Sequences) -> Search:
        """With the defaults for the size of the training cohort."""
        return replace(self, suggested=self.model.suggest(train))

    def params(self, drawn: dict[str, Any]) -> FrozenModel:
        """The model's validated parameters: the drawn values, and the others fixed or default."""
        return self.model.Params.model_validate({**self.suggested, **self.fixed, **drawn})

    def start(self) -> dict[str, Any]:
        """The parameters of the first trial: the defaults, moved into the ranges."""
        return {
            name: _nearest(space, self.suggested.get(name, _default(self.model, name)))
            for name, space in self.ranges.items()
        }

    def describe(self) -> dict[str, Any]:
        """All that the search depends on, as JSON."""
        return {
            "kind": self.kind,
            "version": self.model.version,
            "params": self.params(self.start()).model_dump(mode="json"),
            "ranges": {name: space.model_dump(mode="json") for name, space in self.ranges.items()},
        }


def resolve(kind: str, config: ModelConfig) -> Search:
    """The search of a configuration.

    Raises:
        UsageError: no such model or parameter, a value or bound that the model rejects, an empty
            range, or ``history`` for a model that cannot use it.
    """
    model = MODELS.get(kind)
    space = model.space if config.space is None else config.space
    _check_names(kind, model, {**config.params, **space})
    fixed = {**config.params, **_history_param(kind, model, config)}
    ranges = {name: space[name] for name in sorted(space) if name not in fixed}
    search = Search(kind, model, fixed, ranges)
    for name, range_ in ranges.items():
        _check_range(kind, name, range_)
    _check_values(search)
    return search


def _check_names(kind: str, model: type[Model], names: Iterable[str]) -> None:
    known = model.Params.model_fields
    for name in names:
        if name not in known:
            raise UsageError(
                f"{kind} has no parameter {name!r}",
                where=f"models.{kind}",
                todo=did_you_mean(name, known),
            )


def _history_param(kind: str, model: type[Model], config: ModelConfig) -> dict[str, Any]:
    if not config.history:
        return {}
    if config.params.get("history", True) is not True:
        raise UsageError(
            f"history is on for the model {kind}, and off in its params",
            where=f"models.{kind}.history",
            todo=f"set models.{kind}.history only",
        )
    if "history" in model.Params.model_fields:
        return {"history": True}
    if model.capabilities.history:
        return {}
    raise UsageError(
        f"{kind} cannot use the response history as an input",
        where=f"models.{kind}.history",
        todo="remove history, or choose another model (flowsheet ls models)",
    )


def _check_range(kind: str, name: str, space: Range) -> None:
    if isinstance(space, Choice):
        return
    problem = None
    if space.low > space.high:
        problem = f"low ({space.low}) is above high ({space.high})"
    elif space.log and space.low <= 0:
        problem = f"low must be above 0 for a logarithmic range, not {space.low}"
    elif isinstance(space, IntRange) and (space.step < 1 or (space.log and space.step != 1)):
        problem = "step must be at least 1, and exactly 1 if log is true"
    if problem:
        raise UsageError(
            f"the range of {name!r} is not valid: {problem}", where=f"models.{kind}.space.{name}"
        )


def _check_values(search: Search) -> None:
    """Validate fixed values and bounds before any trial, which may take hours."""
    for name, drawn in _extreme_draws(search):
        try:
            params = search.params(drawn)
        except ValidationError as error:
            problem = error.errors()[0]
            key = str(problem["loc"][0]) if problem["loc"] else ""
            if name is not None and key != name:
                continue  # a rule between parameters, which other draws may satisfy
            raise UsageError(
                f"{search.kind} rejects {key or 'its parameters'} = {problem['input']!r}: "
                f"{problem['msg']}",
                where=_where(search, key),
            ) from error
        for key in non_finite_keys(params.model_dump()):
            raise UsageError(f"{key} is not a finite number", where=_where(search, key))


def _where(search: Search, key: str) -> str:
    section = "params" if key in search.fixed else "space"
    return f"models.{search.kind}.{section}" + (f".{key}" if key else "")


def _extreme_draws(search: Search) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """The first trial, and for each range the first trial with each of its bounds or choices."""
    start = search.start()
    yield None, start
    for name, space in search.ranges.items():
        values = space.of if isinstance(space, Choice) else (space.low, space.high)
        for value in values:
            yield name, {**start, name: value}


def _default(model: type[Model], name: str) -> Any:
    field = model.Params.model_fields[name]
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _nearest(space: Range, value: Any) -> Any:
    """The value of the range that is nearest to ``value``; the first where there is no distance.

    >>> _nearest(IntRange(low=8, high=64, step=8), 30), _nearest(FloatRange(low=0.1, high=1), 0)
    (32, 0.1)
    """
    if isinstance(space, Choice):
        return next((choice for choice in space.of if choice == value), space.of[0])
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return space.low
    if isinstance(space, FloatRange):
        return min(max(float(value), space.low), space.high)
    inside = min(max(value, space.low), space.high)
    steps = round((inside - space.low) / space.step)
    return space.low + min(steps, (space.high - space.low) // space.step) * space.step
