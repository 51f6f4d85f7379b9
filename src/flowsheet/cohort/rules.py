"""The contract's rules about rows, as expressions over a table joined to its context.

The *context* of a row is the times of its stay and the catalogue's entry for its variable or drug.
Readers and the server call :func:`find_row_failures`, which needs only polars;
:mod:`flowsheet.cohort.checks` runs the same rules in pandera.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import polars as pl

from flowsheet.cohort.catalogue import concepts, drug_units, ranges
from flowsheet.cohort.own_concepts import Concepts
from flowsheet.cohort.schema import TIME, UNIQUE_KEYS

TOLERANCE_HOURS = 24.0
"""The longest time before admission or after discharge at which a fact may belong to a stay: the
laboratory results of the day before are part of the record, last samples are signed after
discharge, and an onset that is dated ahead of its evidence may fall after discharge."""

HOSPITAL_TOLERANCE_HOURS = 24.0
"""The longest time after admission to intensive care at which the hospital's own admission may be
dated: patients who are brought straight to intensive care are registered afterwards."""

RESPONSE_NAME = "^[a-z][a-z0-9_]*$"
"""The pattern of names of responses."""

WITHOUT_EVENTS = "stay_without_events"
"""The rule that a stay has at least one measurement."""

DUPLICATE = "duplicate"
"""The rule that no row has the key of an earlier row."""

# Plausible ranges: from preterm infants to the tallest and heaviest people on record.
AGE_YEARS = (0.0, 130.0)
HEIGHT_CM = (20.0, 280.0)
WEIGHT_KG = (0.2, 700.0)
CHARLSON = (0.0, 40.0)
ELIXHAUSER = (-30.0, 100.0)
MAX_DOSE = 1e8
"""In any unit. A convention of ours: the largest usual doses are those of penicillin G, up to 24
million units a day (its label), and ten million units is a large single dose."""

FAILURES: dict[str, pl.DataType] = {
    "table": pl.String(),
    "row": pl.Int64(),  # counted from 1; null: the table as a whole
    "key": pl.String(),
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
}

RULE_HINTS = {
    "known_sex": "F, M or empty",
    "known_not_before_true": "known_at must not be earlier than the time at which it was true",
    "inside_stay": f"a row may lie at most {TOLERANCE_HOURS:g} h outside its stay; a death later",
    "response_name": "small letters, digits and underscores, beginning with a letter",
}
"""What a valid value looks like, for rules whose name does not say it."""

_KEYS = {
    "stays": ["stay_id"],
    "events": ["stay_id", "time", "variable"],
    "treatments": ["stay_id", "start", "drug"],
    "episodes": ["stay_id", "response", "onset"],
}


@dataclass(frozen=True)
class Rule:
    """A rule about the rows of a table.

    ``good`` is true for rows that follow the rule; null counts as true, since missing values have
    their own rule, ``not_null``.
    """

    name: str
    column: str
    good: pl.Expr


def _not_null(*columns: str) -> list[Rule]:
    return [Rule("not_null", column, pl.col(column).is_not_null()) for column in columns]


def _number(column: str, low: float | pl.Expr, high: float | pl.Expr) -> list[Rule]:
    value = pl.col(column)
    return [
        Rule("finite", column, value.is_finite()),
        Rule("plausible_range", column, ~value.is_finite() | value.is_between(low, high)),
    ]


def _known(rule: str, column: str, context: str) -> Rule:
    """The value is one for which the context column exists."""
    return Rule(rule, column, pl.col(column).is_null() | pl.col(context).is_not_null())


def _inside_stay(column: str) -> Rule:
    tolerance = pl.duration(hours=TOLERANCE_HOURS)
    inside = pl.col(column).is_between(
        pl.col("_admitted_at") - tolerance, pl.col("_discharged_at") + tolerance
    )
    return Rule("inside_stay", column, inside)


def _unique(table: str, column: str) -> Rule:
    return Rule(DUPLICATE, column, pl.struct(UNIQUE_KEYS[table]).is_first_distinct())


def _ordered(rule: str, earlier: str, later: str) -> Rule:
    return Rule(rule, later, pl.col(earlier) <= pl.col(later))


_observed_from = pl.coalesce("observed_from", "admitted_at")
_previous = pl.struct("onset", "end").shift(1).over("stay_id", "response", order_by="onset")
_latest_onset = pl.max_horizontal(
    pl.col("_discharged_at") + pl.duration(hours=TOLERANCE_HOURS), "_died_at"
)

RULES: dict[str, list[Rule]] = {
    "stays": [
        *_not_null("stay_id", "subject_id", "admitted_at", "discharged_at"),
        _unique("stays", "stay_id"),
        Rule(
            "admitted_before_discharged",
            "discharged_at",
            pl.col("admitted_at") < pl.col("discharged_at"),
        ),
        Rule(
            "observed_inside_stay",
            "observed_from",
            (pl.col("admitted_at") <= _observed_from) & (_observed_from < pl.col("discharged_at")),
        ),
        Rule(
            "hospital_before_stay",
            "hospital_admitted_at",
            pl.col("hospital_admitted_at")
            <= pl.col("admitted_at") + pl.duration(hours=HOSPITAL_TOLERANCE_HOURS),
        ),
        Rule(
            "ends_with_death",
            "died_at",
            pl.col("discharged_at") <= pl.col("died_at") + pl.duration(hours=TOLERANCE_HOURS),
        ),
        Rule(
            "comfort_measures_after_admission",
            "comfort_measures_at",
            pl.col("comfort_measures_at")
            <= pl.col("discharged_at") + pl.duration(hours=TOLERANCE_HOURS),
        ),
        Rule("known_sex", "sex", pl.col("sex").is_in(["F", "M"])),
        *_number("age", *AGE_YEARS),
        *_number("height_cm", *HEIGHT_CM),
        *_number("weight_kg", *WEIGHT_KG),
        *_number("charlson", *CHARLSON),
        *_number("elixhauser", *ELIXHAUSER),
    ],
    "events": [
        *_not_null("stay_id", "time", "known_at", "variable", "value"),
        _known("known_stay", "stay_id", "_admitted_at"),
        _known("known_variable", "variable", "_low"),
        _inside_stay("time"),
        _ordered("known_not_before_true", "time", "known_at"),
        *_number("value", pl.col("_low"), pl.col("_high")),
        _unique("events", "variable"),
    ],
    "treatments": [
        *_not_null("stay_id", "drug", "start", "end", "known_at"),
        _known("known_stay", "stay_id", "_admitted_at"),
        _known("known_drug", "drug", "_unit"),
        Rule("known_unit", "unit", pl.col("_unit").is_null() | (pl.col("unit") == pl.col("_unit"))),
        Rule("unit_with_dose", "unit", pl.col("dose").is_null() | pl.col("unit").is_not_null()),
        _inside_stay("start"),
        _inside_stay("end"),
        _ordered("start_before_end", "start", "end"),
        Rule("finite", "dose", pl.col("dose").is_finite()),
        Rule("not_negative", "dose", pl.col("dose") >= 0),
        Rule("plausible_range", "dose", ~pl.col("dose").is_finite() | (pl.col("dose") <= MAX_DOSE)),
        _unique("treatments", "drug"),
    ],
    "episodes": [
        *_not_null("stay_id", "response", "onset", "known_at"),
        _known("known_stay", "stay_id", "_admitted_at"),
        Rule("response_name", "response", pl.col("response").str.contains(RESPONSE_NAME)),
        Rule(
            "inside_stay",
            "onset",
            pl.col("onset").is_between(
                pl.col("_admitted_at") - pl.duration(hours=TOLERANCE_HOURS), _latest_onset
            ),
        ),
        _inside_stay("end"),
        _ordered("onset_before_end", "onset", "end"),
        _ordered("known_not_before_true", "onset", "known_at"),
        _unique("episodes", "onset"),
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
    rules = applicable_rules(table, frame)
    rows = add_context(table, frame, stays)
    all_good = rows.select(rule.good.all().alias(str(i)) for i, rule in enumerate(rules)).row(0)
    broken = [rule for rule, good in zip(rules, all_good, strict=True) if not good]
    if not broken:
        return no_failures()
    bad = rows.select((~rule.good).fill_null(False).alias(str(i)) for i, rule in enumerate(broken))
    parts = [
        list_failures(table, frame, bad[str(i)], rule.column, rule.name)
        for i, rule in enumerate(broken)
    ]
    return pl.concat(parts)


@lru_cache(maxsize=1)
def no_failures() -> pl.DataFrame:
    """The result of :func:`find_row_failures` for rows that follow all rules."""
    return pl.DataFrame(schema=FAILURES)


def applicable_rules(
    table: str, frame: pl.DataFrame, *, sorted_unique: bool | None = None
) -> list[Rule]:
    """The table's rules without those that these rows cannot break.

    Sorted, unique rows have no duplicates; the only episode of a response overlaps no other.

    Args:
        table: The table's name.
        frame: Its rows.
        sorted_unique: The result of :func:`is_sorted_unique`, if known.
    """
    if sorted_unique is None:
        sorted_unique = is_sorted_unique(table, frame)
    if not sorted_unique:
        return RULES[table]
    skipped = {DUPLICATE}
    if table == "episodes" and frame.select("stay_id", "response").n_unique() == frame.height:
        skipped.add("no_overlap")
    return [rule for rule in RULES[table] if rule.name not in skipped]


def is_sorted_unique(table: str, frame: pl.DataFrame) -> bool:
    """Whether each row sorts strictly after the row above it, in the contract's order.

    Null sorts before every value, as in polars.
    """
    after: pl.Expr = pl.lit(value=False)
    for key in reversed(UNIQUE_KEYS[table]):
        current, previous = pl.col(key), pl.col(key).shift(1)
        if frame[key].null_count():
            less = (previous < current).fill_null(previous.is_null() & current.is_not_null())
            after = less | (previous.eq_missing(current) & after)
        else:
            after = (previous < current) | ((previous == current) & after)
    return bool(frame.select(after.slice(1).all()).item())


def add_context(table: str, frame: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The rows with their context in extra columns.

    ``_admitted_at``, ``_discharged_at`` and ``_died_at`` are of the row's stay; ``_low`` and
    ``_high`` are the variable's plausible range, ``_unit`` the drug's unit. They are null for an
    unknown stay, variable or drug.
    """
    if table == "stays":
        return frame
    of_stay = stays.select(
        "stay_id",
        _admitted_at="admitted_at",
        _discharged_at="discharged_at",
        _died_at="died_at",
    )
    of_stay = of_stay.unique("stay_id", keep="first").sort("stay_id")
    rows = _flag_sorted(frame).join(of_stay, on="stay_id", how="left", maintain_order="left")
    if table == "events":
        names, bounds = _variable_bounds(concepts())
        position = rows["variable"].cast(names, strict=False).to_physical()  # faster than a join
        return rows.hstack(bounds.select(pl.all().gather(position)))
    if table == "treatments":
        return rows.join(_drug_units(concepts()), on="drug", how="left", maintain_order="left")
    return rows


def _flag_sorted(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, flagged as sorted by stay if it is: then polars joins it by a merge."""
    is_sorted = frame["stay_id"].null_count() == 0 and frame["stay_id"].is_sorted()
    return frame.with_columns(pl.col("stay_id").set_sorted()) if is_sorted else frame


@lru_cache(maxsize=4)
def _variable_bounds(known_concepts: Concepts) -> tuple[pl.Enum, pl.DataFrame]:
    """The catalogue's variables, and their bounds in the same order."""
    del known_concepts  # the cache's key
    known = ranges()
    return pl.Enum(known["variable"]), known.select(_low="low", _high="high")


@lru_cache(maxsize=4)
def _drug_units(known_concepts: Concepts) -> pl.DataFrame:
    del known_concepts  # the cache's key
    return drug_units().rename({"known_unit": "_unit"})


def clip_to_calendar(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with times moved into the years 1 to 9999, which Python can represent."""
    return frame.with_columns(pl.col(TIME).clip(datetime.min, datetime.max))


def list_failures(
    table: str, frame: pl.DataFrame, bad: pl.Series, column: str, rule: str
) -> pl.DataFrame:
    """The failures of one rule.

    Args:
        table: The table's name.
        frame: Its rows.
        bad: True for the rows that break the rule, shape (rows of ``frame``,).
        column: The column that the rule is about.
        rule: The rule's name.

    Returns:
        One row per bad row; columns as in ``FAILURES``.
    """
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
    """A row's key as text.

    >>> rows = pl.DataFrame({"stay_id": [7], "start": [None], "drug": ["propofol"]})
    >>> rows.select(key_text("treatments")).item()
    'stay 7, ?, propofol'
    """
    parts = [_text(column).fill_null("?") for column in _KEYS[table]]
    return pl.concat_str([pl.lit("stay ") + parts[0], *parts[1:]], separator=", ")


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.strip_suffix(".000000")
