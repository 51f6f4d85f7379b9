"""From text to the contract's tables, and where they break the contract's rules.

The tables of one or many requests are checked together; a failure names its table and row, as
``flowsheet.cohort.rules.FAILURES`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache

import numpy as np
import polars as pl

from flowsheet.cohort.catalogue import drugs, variables
from flowsheet.cohort.responses.base import RESPONSES
from flowsheet.cohort.rules import RESPONSE_NAME, find_row_failures, list_failures, no_failures
from flowsheet.cohort.schema import TABLES, TIME, Tables, empty_table
from flowsheet.errors import did_you_mean
from flowsheet.prediction.errors import RequestRejected
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.parsed_request import TIME_FORMAT_HINT
from flowsheet.typing import Floats

EARLIEST, LATEST = datetime(1800, 1, 1), datetime(2400, 1, 1)
"""Times outside are errors, whatever calendar a source has moved its patients to."""

_EARLIEST, _LATEST = np.datetime64(EARLIEST, "us"), np.datetime64(LATEST, "us")
KNOWN_RESPONSE = "known_response"
"""The rule that the response of an episode is a registered one or the model's."""
_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
_TIME_COLUMNS = {
    table: [name for name, kind in columns.items() if kind == TIME]
    for table, columns in TABLES.items()
}
_EXPLANATIONS = {
    "time": f"give {TIME_FORMAT_HINT}",
    "calendar": f"times must lie between {EARLIEST:%Y} and {LATEST:%Y}",
    "not_null": "a value is required",
    "known_stay": "send the stay's row of the table stays as well",
    "inside_stay": "a row may lie at most 24 h outside its stay",
    "known_not_before_true": "known_at must not be earlier than the time at which it was true",
    "admitted_before_discharged": (
        "a stay must end after it begins; leave discharged_at out for a stay that has not ended"
    ),
    "plausible_range": "no living patient has such a value in the catalogue's unit",
    "duplicate": "the same row was sent before",
    "known_unit": "give doses in the catalogue's unit",
    "known_sex": "F, M or null",
    "response_name": "the name of a response, such as sepsis; or leave it out",
}


def check_tables(
    text_tables: Mapping[str, pl.DataFrame],
    limits: Limits,
    step_hours: float,
    response: str | None = None,
) -> tuple[Tables | None, pl.DataFrame]:
    """Parse times, end the stays that are still open, and apply the contract's rules.

    Args:
        text_tables: {table: rows} with the contract's columns, times as text.
        limits: how many steps a stay may have.
        step_hours: length of the model's step, in hours.
        response: that the model predicts, besides the registered ones.

    Returns:
        The tables, or None where a time cannot be parsed; and the failures.
    """
    tables, failures = parse_tables(text_tables)
    if tables is None:
        return None, failures
    is_open = tables.stays["discharged_at"].is_null()
    tables = replace(tables, stays=end_open_stays(tables))
    failures = _find_broken_rules(tables, is_open, limits, step_hours)
    unknown = find_unknown_responses(tables.episodes, response)
    return tables, pl.concat([failures, unknown]) if unknown.height else failures


def parse_tables(
    text_tables: Mapping[str, pl.DataFrame],
) -> tuple[Tables | None, pl.DataFrame]:
    """The tables with their times parsed, or None and the times that cannot be parsed."""
    parsed = {table: _parse_times(table, rows) for table, rows in text_tables.items()}
    failures = _find_wrong_times(text_tables, parsed)
    if failures.height:
        return None, failures
    return Tables(**parsed), failures


def end_open_stays(tables: Tables) -> pl.DataFrame:
    """The stays; one without ``discharged_at`` ends with its latest ``known_at``."""
    if not tables.stays["discharged_at"].has_nulls():
        return tables.stays
    known = [
        rows.select("stay_id", "known_at")
        for rows in (tables.events, tables.treatments, tables.episodes)
    ]
    latest = pl.concat(known).group_by("stay_id").agg(pl.max("known_at"))
    joined = tables.stays.join(latest, on="stay_id", how="left", maintain_order="left")
    end = pl.coalesce("discharged_at", pl.max_horizontal("known_at", "admitted_at"))
    return joined.with_columns(discharged_at=end).drop("known_at")


def reject_too_long(
    stays_per_request: Sequence[int], tables: Tables, limits: Limits, step_hours: float
) -> dict[int, RequestRejected]:
    """Reject requests whose stays together have more steps than one request may ask for.

    Args:
        stays_per_request: how many stays each request has, in the order of ``tables.stays``.
        tables: the tables of all requests.
        limits: how many steps a request may have.
        step_hours: length of the model's step, in hours.

    Returns:
        {position of the request: its rejection}.
    """
    steps = np.ceil(_hours_of_stays(tables.stays) / step_hours)
    totals = np.add.reduceat(steps, np.cumsum([0, *stays_per_request[:-1]]))
    rejected = {}
    for position in np.flatnonzero(totals > limits.steps).tolist():
        message = (
            f"{totals[position]:.0f} steps in one request; at most {limits.steps} are accepted"
        )
        rejected[position] = RequestRejected(413, "too_many_steps", message)
    return rejected


def explain(rule: str, value: str | None) -> str:
    """What a user reads about a row that breaks a rule; ``value`` is the wrong value."""
    if rule == "known_variable":
        hint = did_you_mean((value or "")[:40], variables())
        return f"the catalogue has no such variable; {hint}"
    if rule == KNOWN_RESPONSE:
        hint = did_you_mean((value or "")[:40], RESPONSES.names())
        return f"the model knows no such response; {hint}; or leave it out"
    if rule == "known_drug":
        return f"the catalogue has no such drug; {did_you_mean((value or '')[:40], drugs())}"
    name = rule.replace("_", " ")
    return (
        f"{name}: {_EXPLANATIONS[rule]}" if rule in _EXPLANATIONS else f"it breaks the rule {name}"
    )


_empty_table = lru_cache(empty_table)


def _parse_times(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The table with its times; null where the text is not a time."""
    if rows.is_empty():
        return _empty_table(table)
    filled = [name for name in _TIME_COLUMNS[table] if rows[name].null_count() < rows.height]
    unfilled = [name for name in _TIME_COLUMNS[table] if name not in filled]
    parsed = rows.with_columns(
        pl.col(filled).str.to_datetime(_FORMATS[0], time_unit="us", strict=False),
        pl.col(unfilled).cast(TIME),
    )
    # The first format is the usual one; the others cost time, so they are tried only where needed.
    unparsed = [name for name in filled if parsed[name].null_count() > rows[name].null_count()]
    if unparsed:
        parsed = parsed.with_columns(rows.select(_parse_any_format(name) for name in unparsed))
    return parsed


def _parse_any_format(column: str) -> pl.Expr:
    text = pl.col(column).str
    return pl.coalesce(
        text.to_datetime(text_format, time_unit="us", strict=False) for text_format in _FORMATS
    )


def _find_wrong_times(
    text_tables: Mapping[str, pl.DataFrame], parsed: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """Texts that are not times, and times far from every calendar in use."""
    failures = []
    for table, rows in parsed.items():
        for column in _TIME_COLUMNS[table] if rows.height else ():
            sent, times = text_tables[table], rows[column]
            if times.null_count() > sent[column].null_count():
                unparsed = times.is_null() & sent[column].is_not_null()
                failures.append(list_failures(table, sent, unparsed, column, "time"))
            values = times.to_numpy()
            is_far = (values < _EARLIEST) | (values > _LATEST)
            if is_far.any():
                failures.append(list_failures(table, sent, pl.Series(is_far), column, "calendar"))
    return pl.concat(failures) if failures else no_failures()


def _find_broken_rules(
    tables: Tables, is_open: pl.Series, limits: Limits, step_hours: float
) -> pl.DataFrame:
    """Rows that break the contract's rules; a stay that has not ended lasts at least a moment."""
    stays = tables.stays
    if is_open.any():
        end = pl.max_horizontal("discharged_at", pl.col("admitted_at").dt.offset_by("1us"))
        lengthened = pl.when(is_open).then(end).otherwise("discharged_at")
        stays = stays.with_columns(lengthened.alias("discharged_at"))
    failures = [find_row_failures("stays", stays, stays)]
    is_long = _hours_of_stays(stays) > limits.steps_per_stay * step_hours
    if is_long.any():
        long = pl.Series(is_long)
        failures.append(list_failures("stays", stays, long, "discharged_at", "steps_per_stay"))
    for table in ("events", "treatments", "episodes"):
        rows: pl.DataFrame = getattr(tables, table)
        if rows.height:
            failures.append(find_request_failures(table, rows, stays))
    failures = [lines for lines in failures if lines.height]
    return pl.concat(failures) if failures else no_failures()


def find_request_failures(table: str, rows: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Rows of a table that break a rule; episodes may be without a response, the model's then."""
    failures = find_row_failures(table, rows, stays)
    if table != "episodes":
        return failures
    is_optional = (pl.col("column") == "response") & (pl.col("rule") == "not_null")
    return failures.filter(~is_optional)


def find_unknown_responses(episodes: pl.DataFrame, response: str | None = None) -> pl.DataFrame:
    """Episodes of a response that nothing defines: a misspelt name would be ignored in silence.

    Args:
        episodes: some may be without a response.
        response: that the model predicts, besides the registered ones.
    """
    sent = set(episodes["response"].drop_nulls()) - {response}
    unknown = sorted(sent.difference(RESPONSES.names())) if sent else []
    if not unknown:
        return no_failures()
    is_named_well = pl.col("response").str.contains(RESPONSE_NAME)  # others break response_name
    is_unknown = pl.col("response").is_in(unknown) & is_named_well
    rows = episodes.select(is_unknown.fill_null(value=False)).to_series()
    return list_failures("episodes", episodes, rows, "response", KNOWN_RESPONSE)


def _hours_of_stays(stays: pl.DataFrame) -> Floats:
    """How long each stay lasts, in hours, shape (stays,); NaN where an end is not known."""
    duration = stays["discharged_at"].to_numpy() - stays["admitted_at"].to_numpy()
    hours: Floats = np.where(np.isnat(duration), np.nan, duration / np.timedelta64(1, "h"))
    return hours
