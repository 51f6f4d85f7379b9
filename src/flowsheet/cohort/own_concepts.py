"""Variables and drugs of a project's own: CSV files that join the catalogue, strictly checked.

``catalogue/variables.csv`` has the columns name, label, unit, kind, low, high and source,
``catalogue/drugs.csv`` has name, label, group, unit, max_rate and rate_source, as the shipped files
do; the last two may be absent.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from flowsheet.cohort.units import fold_unit
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.project import current_project

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NUMBERS = ("low", "high", "max_rate")


@dataclass(frozen=True)
class Variable:
    """A measured quantity, in ``unit``; plausible from ``low`` to ``high``, bounds included."""

    name: str
    label: str
    unit: str
    kind: str
    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Drug:
    """A drug: a single dose is in ``unit``, a running infusion in ``unit`` per hour."""

    name: str
    label: str
    group: str
    unit: str
    max_rate: float | None = None
    """The highest possible rate of an infusion, per hour; None: not declared."""
    rate_source: str | None = None


C = TypeVar("C", Variable, Drug)


@dataclass(frozen=True, eq=False)
class Concepts:
    """All variables and drugs by name."""

    variables: dict[str, Variable]
    drugs: dict[str, Drug]


_carried: dict[str, Variable | Drug] = {}
"""Concepts of the model packages that were loaded with :func:`add_carried_concepts`."""


def read_own_concepts(shipped: Concepts) -> Concepts:
    """The shipped concepts, those of the current project, and those that packages carried here.

    Raises:
        UsageError: a file of the project is wrong; the message names its row and column.
    """
    return _merge(_read_project(shipped), tuple(_carried.values()))


def add_carried_concepts(definitions: Mapping[str, Mapping[str, Any]]) -> None:
    """Let a model package's own concepts join the catalogue of this process.

    A name that the catalogue has keeps its definition.

    Args:
        definitions: as ``catalogue.own_concepts`` wrote them into the package.
    """
    for name, values in definitions.items():
        _carried.setdefault(name, Drug(**values) if "group" in values else Variable(**values))


@lru_cache(maxsize=4)
def _merge(concepts: Concepts, carried: tuple[Variable | Drug, ...]) -> Concepts:
    variables = {one.name: one for one in carried if isinstance(one, Variable)}
    drugs = {one.name: one for one in carried if isinstance(one, Drug)}
    if not carried:
        return concepts
    return Concepts({**variables, **concepts.variables}, {**drugs, **concepts.drugs})


def _read_project(shipped: Concepts) -> Concepts:
    project = current_project()
    if project is None:
        return shipped
    paths = (project.concept_file("variables.csv"), project.concept_file("drugs.csv"))
    times = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in paths)
    if not any(times):
        return shipped
    return _read_files(paths, times, shipped)


@lru_cache(maxsize=4)
def _read_files(paths: tuple[Path, Path], times: tuple[int, ...], shipped: Concepts) -> Concepts:
    """Read both files; ``times`` of their last change are a part of the cache's key."""
    del times
    variables = _read_file(paths[0], Variable, shipped, _check_variable)
    drugs = _read_file(paths[1], Drug, shipped, _check_drug)
    for name in drugs.keys() & variables.keys():
        raise UsageError(
            f"a variable and a drug are both called {name!r}",
            where=", ".join(map(str, paths)),
            todo="rename one of them",
        )
    return Concepts({**shipped.variables, **variables}, {**shipped.drugs, **drugs})


def _read_file(
    path: Path, cls: type[C], shipped: Concepts, check: Callable[[C, Concepts, str], None]
) -> dict[str, C]:
    if not path.is_file():
        return {}
    concepts: dict[str, C] = {}
    for number, row in enumerate(_read_rows(path, cls), start=2):
        where = f"{path}, line {number}"
        concept = _parse(row, cls, where)
        if concept.name in {*shipped.variables, *shipped.drugs, *concepts}:
            origin = "this file" if concept.name in concepts else "Flowsheet's catalogue"
            raise UsageError(
                f"the name {concept.name!r} is already used in {origin}",
                where=where,
                todo="give the concept another name",
            )
        check(concept, shipped, where)
        concepts[concept.name] = concept
    return concepts


def _read_rows(path: Path, cls: type[C]) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = f"the file is not a CSV file in UTF-8: {error}"
        raise UsageError(what, where=str(path)) from error
    head = [name.strip() for name in rows[0]] if rows else []
    known = [field.name for field in fields(cls)]
    required = [field.name for field in fields(cls) if field.default is MISSING]
    for name in head:
        if name not in known or head.count(name) > 1:
            hint = did_you_mean(name, known)
            raise UsageError(f"the column {name!r} is not valid", where=str(path), todo=hint)
    missing = [name for name in required if name not in head]
    if missing:
        todo = f"add the columns {', '.join(missing)}"
        raise UsageError("columns are missing", where=str(path), todo=todo)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            what = f"the line has {len(row)} fields, the head has {len(head)}"
            raise UsageError(what, where=f"{path}, line {number}")
    return [dict(zip(head, (cell.strip() for cell in row), strict=True)) for row in rows[1:]]


def _parse(row: Mapping[str, str], cls: type[C], where: str) -> C:
    values: dict[str, Any] = {}
    for field in fields(cls):
        text = row.get(field.name, "")
        is_required = field.default is MISSING
        if not text and is_required:
            raise UsageError(f"{field.name} is empty", where=where, todo="fill every field")
        is_number = text and field.name in _NUMBERS
        values[field.name] = _number(field.name, text, where) if is_number else text or None
    if not _NAME.fullmatch(values["name"]):
        raise UsageError(
            f"{values['name']!r} is not a name",
            where=where,
            todo="use lower-case letters, digits and underscores",
        )
    return cls(**values)


def _number(name: str, text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name}={text!r} is not a finite number", where=where)
    return number


def _check_variable(variable: Variable, shipped: Concepts, where: str) -> None:
    if variable.low >= variable.high:
        raise UsageError(
            f"the plausible range of {variable.name} is empty: {variable.low} to {variable.high}",
            where=where,
            todo="low must be less than high",
        )
    kinds = {known.kind for known in shipped.variables.values()}
    if variable.kind not in kinds:
        what = f"kind={variable.kind!r} is not a kind of variables"
        raise UsageError(what, where=where, todo=did_you_mean(variable.kind, kinds))
    units = {fold_unit(known.unit): known.unit for known in shipped.variables.values()}
    unit = units.get(fold_unit(variable.unit), variable.unit)
    if unit != variable.unit:
        what = f"unit={variable.unit!r} is written {unit!r} in the catalogue"
        raise UsageError(what, where=where, todo=f"write {unit}")


def _check_drug(drug: Drug, shipped: Concepts, where: str) -> None:
    units = {known.unit for known in shipped.drugs.values()}
    if drug.unit not in units:
        what = f"unit={drug.unit!r} is not a unit of doses"
        raise UsageError(what, where=where, todo=did_you_mean(drug.unit, units))
    if drug.max_rate is not None and drug.max_rate <= 0:
        raise UsageError(f"max_rate={drug.max_rate} is not positive", where=where)
