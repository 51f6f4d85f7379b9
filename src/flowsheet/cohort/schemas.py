"""The contract's tables as pandera models for frames of one's own.

They say the same as ingest: columns are read by the same rule, without loss, and every row passes
the same checks. ``Events.validate(frame)`` returns the frame with the contract's columns and types,
or raises pandera's ``SchemaErrors``, whose ``failure_cases`` list everything that is wrong. What
takes more than one table (a known stay, a time inside its stay) is checked by
``find_failures``.

Examples:
    >>> frame = pl.DataFrame({"stay_id": [1], "time": [EPOCH], "known_at": [EPOCH],
    ...                       "variable": ["hr"], "value": [80]})
    >>> Events.validate(frame)["value"].to_list()
    [80.0]
"""

from __future__ import annotations

from typing import Any, ClassVar

import pandera.polars as pa
import polars as pl

from flowsheet.cohort.checks import FAILURES, shape_schema
from flowsheet.cohort.checks import find_failures as _find_failures
from flowsheet.cohort.lossless import conform
from flowsheet.cohort.rules import RULES, Rule, add_context
from flowsheet.cohort.schema import EPOCH, SORT_KEYS, TABLES

__all__ = ["EPOCH", "Episodes", "Events", "Stays", "Treatments", "find_failures"]

_OF_THE_STAY = ("_admitted_at", "_discharged_at", "_died_at")
"""Columns of the context that only the table of stays has."""


class _Table(pa.DataFrameModel):
    """One table of the contract."""

    table: ClassVar[str]

    @classmethod
    def to_schema(cls) -> pa.DataFrameSchema:
        """The table's columns and types, and its rules about single rows, as a pandera schema."""
        shape = shape_schema(cls.table)
        checks = [_as_check(cls.table, rule) for rule in cls.rules()]
        return pa.DataFrameSchema(
            shape.columns, name=cls.__name__, strict=True, ordered=True, checks=checks
        )

    @classmethod
    def rules(cls) -> list[Rule]:
        """The rules that need no other table than the catalogue."""
        return [rule for rule in RULES[cls.table] if not _needs_stays(rule)]

    @classmethod
    def validate(  # type: ignore[override]
        cls, check_obj: pl.DataFrame | pl.LazyFrame, *_: Any, **__: Any
    ) -> pl.DataFrame:
        """The rows in the contract's columns and types; all failures are collected.

        Columns that the contract does not have are left out; optional ones may be absent.

        Raises:
            SchemaErrors: a column cannot be read without loss, or rows break a rule.
        """
        frame = check_obj.collect() if isinstance(check_obj, pl.LazyFrame) else check_obj
        read = conform(cls.table, frame)
        if not read.problems:
            validated: pl.DataFrame = cls.to_schema().validate(read.rows, lazy=True)
            return validated
        # columns that cannot be read are left as they are, for pandera to report
        rows = read.rows
        for column in {problem.column for problem in read.problems}:
            is_there = column in frame.columns
            rows = rows.with_columns(frame[column]) if is_there else rows.drop(column)
        shape_schema(cls.table).validate(rows, lazy=True)
        raise AssertionError("a frame of the wrong shape was accepted")


class Stays(_Table):
    """One row a stay of a patient."""

    table = "stays"


class Events(_Table):
    """One row a charted fact."""

    table = "events"


class Treatments(_Table):
    """One row a drug exposure."""

    table = "treatments"


class Episodes(_Table):
    """One row a stretch of a response."""

    table = "episodes"


def find_failures(
    stays: pl.DataFrame,
    events: pl.DataFrame | None = None,
    treatments: pl.DataFrame | None = None,
    episodes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Everything that ingest would find wrong with the tables, whose rows may be in any order.

    Args:
        stays: the table of stays, to which the rows of the others belong.
        events: charted facts.
        treatments: drug exposures.
        episodes: stretches of the response.

    Returns:
        One row a failure: table, row, key, column, rule, value.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> stays = ward.stays.with_columns(age=pl.lit(-5.0)).head(1).collect()
        >>> fs.schemas.find_failures(stays)["column"].to_list()
        ['age']
    """
    given = {"stays": stays, "events": events, "treatments": treatments, "episodes": episodes}
    parts = [pl.DataFrame(schema=FAILURES)]
    conformed = {}
    for name, frame in given.items():
        if frame is None:
            continue
        read = conform(name, frame)
        rows = [{**vars(problem), "row": None} for problem in read.problems]
        parts.append(pl.DataFrame(rows, schema=FAILURES))
        if not read.problems:
            conformed[name] = read.rows.sort(SORT_KEYS[name], maintain_order=True)
    return pl.concat([*parts, _find_failures(conformed)])


def _needs_stays(rule: Rule) -> bool:
    return any(column in _OF_THE_STAY for column in rule.good.meta.root_names())


def _as_check(table: str, rule: Rule) -> pa.Check:
    def is_good(data: Any) -> pl.LazyFrame:
        frame = data.lazyframe.collect()
        no_stays = pl.DataFrame(schema=TABLES["stays"])
        return add_context(table, frame, no_stays).lazy().select(rule.good)

    name = f"{rule.name}({rule.column})"
    return pa.Check(is_good, name=name, title=rule.column, error=name)
