"""The contract's rules about rows, as expressions over a table beside its context.

A table's *context* is what each row's stay and the catalogue say of it. Reading and serving ask
:func:`find_row_failures`, which needs polars alone; :mod:`flowsheet.cohort.checks` puts the same rules
to pandera.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import polars as pl

from flowsheet.cohort.catalogue import drug_units, ranges
from flowsheet.cohort.schema import TIME, UNIQUE_KEYS

TOLERANCE_HOURS = 24.0
"""How far before admission or after discharge a fact of a stay may lie: the laboratory results of
the day before belong to the picture, last samples are signed after discharge, and an onset dated
ahead of its record may fall beyond it."""

HOSPITAL_TOLERANCE_HOURS = 24.0
"""How much later than the stay the hospital's own admission may be dated: patients brought straight
to intensive care are registered afterwards."""

WITHOUT_EVENTS = "stay_without_events"
"""A stay of which nothing was measured."""

DUPLICATE = "duplicate"
"""A row with the key of an earlier one."""

AGE, HEIGHT, WEIGHT = (0.0, 130.0), (20.0, 280.0), (0.2, 700.0)
"""Plausible years, cm and kg: preterm infants to the tallest and heaviest people on record."""

FAILURES: dict[str, pl.DataType] = {
    "table": pl.String(),
    "row": pl.Int64(),  # counted from 1; null: the table as a whole
    "key": pl.String(),
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
}

_KEYS = {
    "stays": ["stay_id"],
    "events": ["stay_id", "time", "variable"],
    "treatments": ["stay_id", "start", "drug"],
    "episodes": ["stay_id", "onset"],
}


@dataclass(frozen=True)
class Rule:
    """``good`` is true where a row keeps the rule; null counts as kept (null has a rule of its own)."""

    name: str
    column: str
    good: pl.Expr


def _given(*columns: str) -> list[Rule]:
    return [Rule("not_null", column, pl.col(column).is_not_null()) for column in columns]


def _number(column: str, low: float | pl.Expr, high: float | pl.Expr) -> list[Rule]:
    value = pl.col(column)
    return [
        Rule("finite", column, value.is_finite()),
        Rule("plausible_range", column, ~value.is_finite() | value.is_between(low, high)),
    ]


def _known(rule: str, column: str, found: str) -> Rule:
    return Rule(rule, column, pl.col(column).is_null() | pl.col(found).is_not_null())


def _inside_stay(column: str) -> Rule:
    tolerance = pl.duration(hours=TOLERANCE_HOURS)
    inside = pl.col(column).is_between(
        pl.col("_admitted_at") - tolerance, pl.col("_discharged_at") + tolerance
    )
    return Rule("inside_stay", column, inside)


def _distinct(table: str, column: str) -> Rule:
    return Rule(DUPLICATE, column, pl.struct(UNIQUE_KEYS[table]).is_first_distinct())


def _later(rule: str, earlier: str, later: str) -> Rule:
    return Rule(rule, later, pl.col(earlier) <= pl.col(later))


_begin = pl.coalesce("observed_from", "admitted_at")
_previous = pl.struct("onset", "end").shift(1).over("stay_id", order_by="onset")

RULES: dict[str, list[Rule]] = {
    "stays": [
        *_given("stay_id", "subject_id", "admitted_at", "discharged_at"),
        _distinct("stays", "stay_id"),
        Rule(
            "admitted_before_discharged",
            "discharged_at",
            pl.col("admitted_at") < pl.col("discharged_at"),
        ),
        Rule(
            "observed_inside_stay",
            "observed_from",
            (pl.col("admitted_at") <= _begin) & (_begin < pl.col("discharged_at")),
        ),
        Rule(
            "hospital_before_stay",
            "hospital_admitted_at",
            pl.col("hospital_admitted_at")
            <= pl.col("admitted_at") + pl.duration(hours=HOSPITAL_TOLERANCE_HOURS),
        ),
        Rule("known_sex", "sex", pl.col("sex").is_in(["F", "M"])),
        *_number("age", *AGE),
        *_number("height_cm", *HEIGHT),
        *_number("weight_kg", *WEIGHT),
    ],
    "events": [
        *_given("stay_id", "time", "known_at", "variable", "value"),
        _known("known_stay", "stay_id", "_admitted_at"),
        _known("known_variable", "variable", "_low"),
        _inside_stay("time"),
        _later("known_not_before_true", "time", "known_at"),
        *_number("value", pl.col("_low"), pl.col("_high")),
        _distinct("events", "variable"),
    ],
    "treatments": [
        *_given("stay_id", "drug", "start", "end", "known_at"),
        _known("known_stay", "stay_id", "_admitted_at"),
        _known("known_drug", "drug", "_unit"),
        Rule("known_unit", "unit", pl.col("_unit").is_null() | (pl.col("unit") == pl.col("_unit"))),
        Rule("unit_with_dose", "unit", pl.col("dose").is_null() | pl.col("unit").is_not_null()),
        _inside_stay("start"),
        _inside_stay("end"),
        _later("start_before_end", "start", "end"),
        Rule("finite", "dose", pl.col("dose").is_finite()),
        Rule("not_negative", "dose", pl.col("dose") >= 0),
        _distinct("treatments", "drug"),
    ],
    "episodes": [
        *_given("stay_id", "onset", "known_at"),
        _known("known_stay", "stay_id", "_admitted_at"),
        _inside_stay("onset"),
        _inside_stay("end"),
        _later("onset_before_end", "onset", "end"),
        _later("known_not_before_true", "onset", "known_at"),
        _distinct("episodes", "onset"),
        Rule(
            "no_overlap",
            "onset",
            _previous.struct["onset"].is_null()
            | (_previous.struct["end"] <= pl.col("onset")).fill_null(value=False),
        ),
    ],
}


def find_row_failures(table: str, frame: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Rows of a well-shaped table that break a rule, rule by rule; columns as in ``FAILURES``."""
    rules, rows = applicable_rules(table, frame), add_context(table, frame, stays)
    whole = rows.select(rule.good.all().alias(str(i)) for i, rule in enumerate(rules)).row(0)
    broken = [rule for rule, good in zip(rules, whole, strict=True) if not good]
    if not broken:
        return no_failures()
    bad = rows.select((~rule.good).fill_null(False).alias(str(i)) for i, rule in enumerate(broken))
    lines = [
        list_failures(table, frame, bad[str(i)], rule.column, rule.name)
        for i, rule in enumerate(broken)
    ]
    return pl.concat(lines)


@lru_cache(maxsize=1)
def no_failures() -> pl.DataFrame:
    """What :func:`find_row_failures` says of rows that keep all rules."""
    return pl.DataFrame(schema=FAILURES)


def applicable_rules(table: str, frame: pl.DataFrame, *, apart: bool | None = None) -> list[Rule]:
    """The table's rules less those that are plainly kept; ``apart`` is what :func:`is_sorted_unique`
    said, if it was asked.

    Rows that stand apart are distinct, and a stay's only episode overlaps none.
    """
    if is_sorted_unique(table, frame) if apart is None else apart:
        alone = table == "episodes" and frame["stay_id"].n_unique() == frame.height
        return [
            rule
            for rule in RULES[table]
            if rule.name not in {DUPLICATE, *(("no_overlap",) if alone else ())}
        ]
    return RULES[table]


def is_sorted_unique(table: str, frame: pl.DataFrame) -> bool:
    """Whether every row comes after the one before it: the rows are in the contract's order, and
    none comes twice.

    A null comes before everything else, as polars sorts.
    """
    after: pl.Expr = pl.lit(value=False)
    for key in reversed(UNIQUE_KEYS[table]):
        now, last = pl.col(key), pl.col(key).shift(1)
        if frame[key].null_count():
            less = (last < now).fill_null(last.is_null() & now.is_not_null())
            after = less | (last.eq_missing(now) & after)
        else:
            after = (last < now) | ((last == now) & after)
    return bool(frame.select(after.slice(1).all()).item())


def add_context(table: str, frame: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Beside each row, what its stay (``_admitted_at``, ``_discharged_at``) and the catalogue say of it."""
    if table == "stays":
        return frame
    of_stay = stays.select("stay_id", _admitted_at="admitted_at", _discharged_at="discharged_at")
    of_stay = of_stay.unique("stay_id", keep="first").sort("stay_id")
    rows = _marked_sorted(frame).join(of_stay, on="stay_id", how="left", maintain_order="left")
    if table == "events":
        names, bounds = _known_variables()
        place = rows["variable"].cast(names, strict=False).to_physical()  # sooner than a join
        return rows.hstack(bounds.select(pl.all().gather(place)))
    if table == "treatments":
        return rows.join(_known_drugs(), on="drug", how="left", maintain_order="left")
    return rows


def _marked_sorted(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, said to be sorted by stay if it is: that makes a join with the stays a walk."""
    known = frame["stay_id"].null_count() == 0 and frame["stay_id"].is_sorted()
    return frame.with_columns(pl.col("stay_id").set_sorted()) if known else frame


@lru_cache(maxsize=1)
def _known_variables() -> tuple[pl.Enum, pl.DataFrame]:
    """The catalogue's variables, and their bounds in the same order."""
    known = ranges()
    return pl.Enum(known["variable"]), known.select(_low="low", _high="high")


@lru_cache(maxsize=1)
def _known_drugs() -> pl.DataFrame:
    return drug_units().rename({"known_unit": "_unit"})


def clip_to_calendar(frame: pl.DataFrame) -> pl.DataFrame:
    """Times before year 1 or after 9999 moved to these: no calendar could show them."""
    return frame.with_columns(pl.col(TIME).clip(datetime.min, datetime.max))


def list_failures(
    table: str, frame: pl.DataFrame, bad: pl.Series, column: str, rule: str
) -> pl.DataFrame:
    """One line for each row where ``bad`` is true."""
    rows = clip_to_calendar(frame.with_row_index("row", offset=1).filter(bad))
    return rows.select(
        table=pl.lit(table),
        row=pl.col("row").cast(pl.Int64),
        key=key_text(table),
        column=pl.lit(column),
        rule=pl.lit(rule),
        value=_text(column),
    )


def key_text(table: str) -> pl.Expr:
    """A row's key in words.

    >>> rows = pl.DataFrame({"stay_id": [7], "onset": [None]}, schema_overrides={"onset": pl.Datetime("us")})
    >>> rows.select(key_text("episodes")).item()
    'stay 7, ?'
    """
    parts = [_text(column).fill_null("?") for column in _KEYS[table]]
    return pl.concat_str([pl.lit("stay ") + parts[0], *parts[1:]], separator=", ")


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.strip_suffix(".000000")
