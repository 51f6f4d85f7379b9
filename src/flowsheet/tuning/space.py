"""What a model's search may vary, what is fixed, and where it begins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Search:
    """A model's parameters, parted into the fixed ones and the ranges to draw from."""

    kind: str
    model: type[Model]
    fixed: dict[str, Any]
    ranges: dict[str, Range]
    """In the order of their names, so that the same seed draws the same values."""

    def params(self, drawn: dict[str, Any]) -> FrozenModel:
        """The model's validated parameters with these values drawn; the rest fixed or default."""
        return self.model.Params.model_validate({**self.fixed, **drawn})

    def start(self) -> dict[str, Any]:
        """The defaults, moved into the ranges: the first trial."""
        return {
            name: _nearest(space, _default(self.model, name)) for name, space in self.ranges.items()
        }

    def describe(self) -> dict[str, Any]:
        """What the search depends on, as JSON."""
        return {
            "kind": self.kind,
            "version": self.model.version,
            "params": self.params(self.start()).model_dump(mode="json"),
            "ranges": {name: space.model_dump(mode="json") for name, space in self.ranges.items()},
        }


def resolve(kind: str, config: ModelConfig) -> Search:
    """The search that a configuration asks for.

    Raises:
        UsageError: no such model or parameter, a value or bound that the model refuses, an empty
            range, or a response history offered to a model that cannot take it.
    """
    model = MODELS.get(kind)
    own = model.space if config.space is None else config.space
    _check_names(kind, model, {**config.params, **own})
    fixed = {**config.params, **_history(kind, model, config)}
    ranges = {name: own[name] for name in sorted(own) if name not in fixed}
    search = Search(kind, model, fixed, ranges)
    for name, space in ranges.items():
        _check_range(kind, name, space)
    _check_values(search)
    return search


def _check_names(kind: str, model: type[Model], given: dict[str, Any]) -> None:
    known = model.Params.model_fields
    for name in given:
        if name not in known:
            raise UsageError(
                f"{kind} has no parameter {name!r}", f"models.{kind}", did_you_mean(name, known)
            )


def _history(kind: str, model: type[Model], config: ModelConfig) -> dict[str, Any]:
    if not config.history:
        return {}
    if config.params.get("history", True) is not True:
        raise UsageError(
            f"{kind} is given the response history, and told not to take it",
            f"models.{kind}.history",
            "say history of the model, not of its params",
        )
    if "history" in model.Params.model_fields:
        return {"history": True}
    if model.capabilities.history:
        return {}
    raise UsageError(
        f"{kind} cannot take the response history as an input",
        f"models.{kind}.history",
        "leave history out, or choose a model that can (flowsheet ls models)",
    )


def _check_range(kind: str, name: str, space: Range) -> None:
    if isinstance(space, Choice):
        return
    problem = None
    if space.low > space.high:
        problem = f"low ({space.low}) is above high ({space.high})"
    elif space.log and space.low <= 0:
        problem = f"a logarithmic range begins above 0, not at {space.low}"
    elif isinstance(space, IntRange) and (space.step < 1 or (space.log and space.step != 1)):
        problem = "step is at least 1, and is left out when log is true"
    if problem:
        raise UsageError(
            f"the range of {name!r} is empty or wrong: {problem}", f"models.{kind}.space.{name}"
        )


def _check_values(search: Search) -> None:
    """Let the model refuse fixed values and bounds now, not hours later in a trial."""
    for name, drawn in _corners(search):
        try:
            params = search.params(drawn)
            for key in non_finite_keys(params.model_dump()):
                raise UsageError(
                    f"{key} is not a finite number",
                    f"models.{search.kind}.{_section(search, key)}.{key}",
                )
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0]) if first["loc"] else ""
            if name is not None and key != name:
                continue  # a rule between parameters: only a trial can tell which draws break it
            raise UsageError(
                f"{search.kind} refuses {key or 'its parameters'} = {first['input']!r}: {first['msg']}",
                f"models.{search.kind}.{_section(search, key)}{'.' + key if key else ''}",
            ) from error


def _section(search: Search, key: str) -> str:
    return "params" if key in search.fixed else "space"


def _corners(search: Search) -> Iterator[tuple[str | None, dict[str, Any]]]:
    start = search.start()
    yield None, start
    for name, space in search.ranges.items():
        ends = space.of if isinstance(space, Choice) else (space.low, space.high)
        for end in ends:
            yield name, {**start, name: end}


def _default(model: type[Model], name: str) -> Any:
    field = model.Params.model_fields[name]
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _nearest(space: Range, value: Any) -> Any:
    """The value of the range that is nearest to ``value``; its first when nothing is near.

    >>> _nearest(IntRange(low=8, high=64, step=8), 30), _nearest(FloatRange(low=0.1, high=1), 0)
    (32, 0.1)
    """
    if isinstance(space, Choice):
        return next((choice for choice in space.of if choice == value), space.of[0])
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return space.low
    if isinstance(space, FloatRange):
        return min(max(float(value), space.low), space.high)
    steps = round((min(max(value, space.low), space.high) - space.low) / space.step)
    return space.low + min(steps, (space.high - space.low) // space.step) * space.step
