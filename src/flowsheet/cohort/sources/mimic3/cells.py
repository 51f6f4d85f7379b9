"""Text cells as integers, numbers and times."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog


def parse_integers(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Parse columns as integers; other values become null."""
    for column in columns:
        if frame.schema[column] == pl.Int64():
            continue
        parsed = frame.select(pl.col(column).cast(pl.Int64, strict=False)).to_series()
        if frame.schema[column] == pl.String():
            is_filled = frame.select((pl.col(column) != "").fill_null(value=False)).to_series()
            if (is_filled & parsed.is_null()).any():  # some programs write 12.0
                number = pl.col(column).cast(pl.Float64, strict=False)
                parsed = frame.select(number.cast(pl.Int64, strict=False)).to_series()
        frame = frame.with_columns(parsed.alias(column))
    return frame


def parse_numbers(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Parse columns as numbers; other values, infinity and NaN become null."""
    parsed = frame.with_columns(pl.col(columns).cast(pl.Float64, strict=False))
    return parsed.with_columns(
        pl.when(pl.col(column).is_finite()).then(pl.col(column)).alias(column) for column in columns
    )


def parse_times(frame: pl.DataFrame, table: str, log: ExclusionLog, *columns: str) -> pl.DataFrame:
    """Parse columns as times or dates; empty cells become null.

    Args:
        frame: rows with their number in the file in the column ``row``.
        table: name of the raw table.
        log: receives rows with a time that cannot be read as defects of the rule ``date``.
        columns: names of the columns.
    """
    for column in columns:
        if frame.schema[column] != pl.String():
            frame = frame.with_columns(pl.col(column).cast(pl.Datetime("us")))
            continue
        text = pl.col(column)
        time = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False, cache=False)
        frame = frame.with_columns(time.alias("_parsed"))
        is_unread = pl.col("_parsed").is_null() & (text != "")
        unread = frame.filter(is_unread)
        if unread.height:
            date = text.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
            if unread.select(date).to_series().null_count() < unread.height:
                frame = frame.with_columns(pl.coalesce("_parsed", date).alias("_parsed"))
            frame = log.reject(frame, is_unread, table, column, "date")
        frame = frame.drop(column).rename({"_parsed": column})
    return frame
