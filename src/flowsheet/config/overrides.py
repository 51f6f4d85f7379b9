"""The values of ``KEY=VALUE``: each is read by the type of its key.

Text and paths are taken as they are typed, so that ``ward #2``, ``007``, ``on`` and ``12:30:00``
are texts; everything else (numbers, booleans, lists, mappings) is YAML. ``null`` or nothing empties
an optional text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from flowsheet.errors import UsageError, first_line
from flowsheet.state.locations import Location, local_path, parse_location


def find_type(model: Any, keys: Sequence[str]) -> Any:
    """The annotation of a key, which leads through models and mappings; None if there is none.

    Args:
        model: a configuration model, or another annotation.
        keys: the parts of the key.
    """
    if not keys:
        return model
    for annotation in _alternatives(model):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(keys[0])
            if field:
                return find_type(field.annotation, keys[1:])
        elif get_origin(annotation) in (dict, Mapping):
            return find_type(get_args(annotation)[1], keys[1:])
    return None


def list_keys(annotation: Any) -> list[str]:
    """The fields of a configuration model; none for another type.

    >>> from flowsheet.config import TuningConfig
    >>> list_keys(TuningConfig)[:2]
    ['name', 'trials']
    """
    keys: list[str] = []
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += kind.model_fields
    return keys


def is_text(annotation: Any) -> bool:
    """Whether all values of the type are texts, or empty.

    >>> is_text(str | None), is_text(Literal["a", "b"]), is_text(int | str), is_text(list[str])
    (True, True, False, False)
    """
    kinds = [kind for kind in _alternatives(annotation) if kind is not NoneType]
    return bool(kinds) and all(_is_text_type(kind) for kind in kinds)


def _is_text_type(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(value, str) for value in get_args(kind))
    is_class = isinstance(kind, type)
    return is_class and (issubclass(kind, str | Path) or _is_enum_of_texts(kind))


def _is_enum_of_texts(kind: type) -> bool:
    return issubclass(kind, Enum) and all(isinstance(member.value, str) for member in kind)


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union, without annotations."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [annotation]


def read_text(text: str, annotation: Any) -> str | None:
    """The value of a key that contains text."""
    is_optional = NoneType in _alternatives(annotation)
    return None if is_optional and text in ("", "null") else text


def read_yaml(key: str, text: str) -> Any:
    """The value of a key that contains anything but text.

    Raises:
        UsageError: it is not valid YAML.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if "${" in text:
        what = f"the value of {key} is an interpolation, which is not supported"
        raise UsageError(what, where=f"{key}={text}", todo="write the value itself")
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise UsageError(
            f"the value of {key} is not valid YAML",
            where=f"{key}={text}",
            todo=first_line(error),
        ) from error
    assert isinstance(parsed, dict)
    return parsed["value"]


def set_value(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value in nested mappings; a mapping is merged with the one that is there.

    An empty mapping, such as ``models.lstm.space={}``, empties the one that is there.

    Raises:
        UsageError: a key on the way has a value that is not a mapping.
    """
    for position, key in enumerate(keys[:-1]):
        inner = values.setdefault(key, {})
        if inner is None:
            inner = values[key] = {}
        if not isinstance(inner, dict):
            name = ".".join(keys[: position + 1])
            what = f"an override cannot be applied: {name} has no keys"
            raise UsageError(what, where=".".join(keys), todo="fix the key")
        values = inner
    current = values.get(keys[-1])
    if not isinstance(current, dict) or value is None or value == {}:
        values[keys[-1]] = value
        return
    if not isinstance(value, dict):
        what = f"an override cannot be applied: {keys[-1]} has keys of its own"
        raise UsageError(what, where=".".join(keys), todo=f"known: {', '.join(map(str, current))}")
    for key, inner_value in value.items():
        set_value(current, (str(key),), inner_value)


def path_exists(path: Path) -> bool:
    """Whether there is a file or folder; not for names that no file can have.

    ``Path.exists`` raises for a name that is too long.
    """
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def absolute_location(text: str) -> Location:
    """A path or the URL of an object store as text; a path as :func:`absolute_path` gives it."""
    location = parse_location(text)
    return absolute_path(text) if isinstance(location, Path) else location


def absolute_path(text: str) -> Path:
    """A path as text, absolute; ``~`` is the home of the user, and ``~x`` a name like any other.

    Raises:
        UsageError: it is a URL.
    """
    path = local_path(text, "the path")
    return (path.expanduser() if path.parts[:1] == ("~",) else path).absolute()
