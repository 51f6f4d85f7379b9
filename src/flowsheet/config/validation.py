"""Validate plain values against a configuration model; errors name the nearest known key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from flowsheet.errors import CheckFailed, UsageError, did_you_mean

M = TypeVar("M", bound=BaseModel)
_Location = tuple[str | int, ...]


def validate_config(
    cls: type[M], values: Mapping[str, Any], where: str, prefix: tuple[str, ...] = ()
) -> M:
    """``cls(**values)``, or one error that names every wrong key and value.

    Args:
        cls: The configuration model.
        values: Its values, nested as plain data.
        where: The place that an error names, such as the experiment.
        prefix: Keys that lead to ``values`` in the whole configuration, for the errors.

    Raises:
        UsageError: a key is unknown, or a value has the wrong type, is out of bounds or not finite.
    """
    try:
        config = cls.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(cls, prefix, dict(problem)) for problem in error.errors()]
        raise UsageError(
            "; ".join(lines), where=where, todo="fix the key or value named above"
        ) from None
    for key in non_finite_keys(config.model_dump(), prefix):
        raise UsageError(f"{key} is not a finite number", where=where, todo="give it a number")
    return config


def validate_recorded(cls: type[M], values: Any, where: str) -> M:
    """A part of a record that a run, a package or an extract keeps.

    Args:
        cls: its model in this release.
        values: what is recorded, as plain data.
        where: the record, for the error.

    Raises:
        CheckFailed: this release does not understand the record, which another release wrote.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        reasons = "; ".join(_explain(cls, (), dict(problem)) for problem in error.errors())
        raise CheckFailed(
            f"this release does not understand what another release recorded: {reasons}",
            where=where,
            todo="make it again with this release",
        ) from None


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
    location: _Location = problem["loc"]
    key = ".".join(map(str, (*prefix, *location))) or "the configuration"
    value = problem["input"]
    if problem["type"] == "extra_forbidden":
        known_keys = _keys_at(cls, location[:-1])
        return f"there is no key {key!r}: {did_you_mean(str(location[-1]), known_keys)}"
    if problem["type"] in ("enum", "literal_error"):
        expected = str(problem["ctx"]["expected"])
        choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
        return f"{key}={value!r} is not a choice: {did_you_mean(str(value), choices)}"
    shown_value = "" if isinstance(value, Mapping) else f"={value!r}"  # a group is too long to show
    return f"{key}{shown_value}: {problem['msg'].removeprefix('Value error, ')}"


def _keys_at(cls: type[BaseModel], location: _Location) -> list[str]:
    """The keys of the model at a location, which leads through fields, mappings and unions."""
    here: Any = cls
    for part in location:
        is_field = _is_model(here) and part in here.model_fields
        annotation = here.model_fields[part].annotation if is_field else here
        models = [model for model in _models_in(annotation) if model is not here]
        here = models[0] if models else here
    return list(here.model_fields)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _models_in(annotation: Any) -> list[Any]:
    if _is_model(annotation):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
