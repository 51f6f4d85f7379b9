"""One rule for each kind of cell, wherever it stands: ids, numbers, times, flags and text.

CSV is parsed by Arrow, a block at a time, as long as every cell of the block is in its usual form;
a block with another cell, and Parquet, is parsed here. Both give the same values, so the result of
a cell does not depend on its neighbours.

================  ==============================================================================
id                ``50813``, also with spaces, zeros or ``+`` before it, or as ``50813.0``
number            a number of at most 1e12
text_id           an id, or any other text: its number is 53 bits of its SHA-256
time              ``2145-09-08 14:00:00``, also with ``T``, without seconds or with a fraction of
                  one; with a time zone (``Z``, ``+00:00``) only where the database or the user
                  states one; never a date alone: 00:00 would be too early
day               a time, or a date alone, in columns that are dates by definition
flag              ``1`` or ``0``, also as ``1.0``, ``true`` or ``false``, ``t`` or ``f``
text              UTF-8, without the spaces around it
================  ==============================================================================

Empty are cells without characters, or with one of ``EMPTY_TEXTS``; where the cells are not text,
also ``None``. As text that is a finding: a patient without an oxygen device has O2 device "None".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import polars as pl

from flowsheet.cohort.time_zones import to_local_time

EMPTY_TEXTS = ("", "NULL", "null", "\\N", "NA", "<NA>", "NaN", "nan", "NaT")
"""How databases, R and pandas write an empty cell."""

TIME_HINT = (
    "times are YYYY-MM-DD HH:MM:SS (or with T, or without seconds), with a time of day and without "
    "a time zone"
)
CELL_HINTS = {
    "id": "ids are whole numbers, such as 50813 or 50813.0",
    "date": f"{TIME_HINT} unless one is stated for the source; a stated zone with summer time ends "
    "in 2099, one without, such as Etc/GMT+5, does not",
    "encoding": "the files are UTF-8; convert them, for example with iconv",
    "number": "numbers have a decimal point, no sign such as > before them, and are below 1e12",
    "flag": "1 or 0, or true or false",
    "unit": "the units are those of the file of items",
}
"""What a valid cell looks like, by the rule that another one breaks."""


class CellKind(StrEnum):
    """What the cells of a column contain."""

    id = "id"
    text_id = "text_id"
    """An id that may be a text."""
    number = "number"
    time = "time"
    day = "day"
    """A time that is known to the day: in Parquet a date will do."""
    flag = "flag"
    text = "text"


CELL_TYPES: dict[CellKind, pl.DataType] = {
    CellKind.id: pl.Int64(),
    CellKind.text_id: pl.Int64(),
    CellKind.number: pl.Float64(),
    CellKind.time: pl.Datetime("us"),
    CellKind.day: pl.Datetime("us"),
    CellKind.flag: pl.Int64(),
    CellKind.text: pl.String(),
}
"""The type of a parsed column; a flag is 1 or 0."""

CELL_RULES: dict[CellKind, str] = {
    CellKind.id: "id",
    CellKind.text_id: "id",
    CellKind.number: "number",
    CellKind.time: "date",
    CellKind.day: "date",
    CellKind.flag: "flag",
    CellKind.text: "encoding",
}
"""The rule that a cell breaks if it cannot be parsed; bytes that are not UTF-8: ``encoding``."""

CELL_DEFECTS: dict[str, pl.DataType] = {
    "position": pl.Int64(),  # of the row in its block
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
}

_ID = r"^\+?0*(\d{1,18})(?:\.0*)?$"
_HEXADECIMAL = r"^0[xX]([0-9a-fA-F]{1,15})$"  # Arrow reads it as a number
_CLOCK = r"[ T]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(\.\d{1,9})?)?"
_TIME = rf"^(\d{{4}}-\d{{2}}-\d{{2}}){_CLOCK}$"
_DAY = rf"^(\d{{4}}-\d{{2}}-\d{{2}})(?:{_CLOCK})?$"
_ZONE = r"(:\d{2}(?:\.\d+)?)\s?(Z|UTC|[+-](?:0\d|1[0-4])(?::?[0-5]\d)?)$"
_START_OF_TIME = r"^\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}"
_MAX_DIGITS = 15
"""Ids with more digits are numbered by their hash where ids may be texts."""
_HASH_BITS = 53
"""Whole numbers up to 2**53 survive in any program; two of a million ids agree once in 18,000
databases."""
_TRUE_TEXTS = ("true", "t", "yes", "y")
_FALSE_TEXTS = ("false", "f", "no", "n")
LARGEST_NUMBER = 1e12
"""Larger numbers are defects. A convention of ours, far above any measurement or dose in any unit:
it stops cells such as ``1e300``, whose conversion would overflow; plausible ranges come later."""
_LARGEST_WHOLE_FLOAT = 2.0**53
_FLOAT32_DIGITS = 7
"""Of a number of four bytes: 0.1 is not 0.10000000149."""
_SHOWN_CHARACTERS = 60
_MICROSECONDS_PER_MINUTE = 60_000_000


@dataclass(frozen=True)
class TimeZones:
    """The zones of times: ``source`` of those that state none, ``target`` of the parsed ones."""

    source: str | None = None
    """None: the hospital's own, whichever it is."""
    target: str | None = None
    """None: times that state a zone are refused."""


NO_ZONES = TimeZones()


def parse_cells(
    frame: pl.DataFrame, kinds: dict[str, CellKind], zones: TimeZones = NO_ZONES
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Parse every column by its kind; rows with a cell that cannot be parsed are left out.

    Args:
        frame: columns of any type (text as bytes), and ``position``, the row's in its block.
        kinds: what each column contains.
        zones: the zones of the times.

    Returns:
        The parsed rows with ``position``; and one defect for each row that is left out, its first;
        columns as in ``CELL_DEFECTS``.
    """
    parsed = [frame["position"]]
    is_broken = pl.repeat(False, frame.height, eager=True)
    defects = [pl.DataFrame(schema=CELL_DEFECTS)]
    for column, kind in kinds.items():
        cells, is_undecodable = _decode(frame[column])
        values, is_unread = _parse(cells, kind, zones)
        parsed.append(values.alias(column))
        for rule, mask in (("encoding", is_undecodable), (CELL_RULES[kind], is_unread)):
            is_new = mask & ~is_broken
            if is_new.any():
                defects.append(_make_defects(frame["position"], cells, column, rule, is_new))
                is_broken |= is_new
    return pl.DataFrame(parsed).filter(~is_broken), pl.concat(defects)


def _make_defects(
    positions: pl.Series, cells: pl.Series, column: str, rule: str, is_broken: pl.Series
) -> pl.DataFrame:
    value = cells.cast(pl.String).str.slice(0, _SHOWN_CHARACTERS)
    rows = pl.DataFrame({"position": positions, "value": value}).filter(is_broken)
    defects = rows.with_columns(column=pl.lit(column), rule=pl.lit(rule))
    return defects.select(list(CELL_DEFECTS)).cast(pl.Schema(CELL_DEFECTS))


def _decode(cells: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Bytes as text, and a mask of the cells that are not UTF-8.

    polars' cast of such bytes raises, even if it is told not to be strict.
    """
    if cells.dtype != pl.Binary:
        return cells, pl.repeat(False, len(cells), eager=True)
    try:
        return cells.cast(pl.String), pl.repeat(False, len(cells), eager=True)
    except pl.exceptions.ComputeError:
        raw = cells.to_list()
    texts = [None if cell is None else cell.decode("utf-8", "replace") for cell in raw]
    is_wrong = [
        cell is not None and text is not None and text.encode() != cell
        for cell, text in zip(raw, texts, strict=True)
    ]
    return pl.Series(texts, dtype=pl.String), pl.Series(is_wrong, dtype=pl.Boolean)


def _parse(cells: pl.Series, kind: CellKind, zones: TimeZones) -> tuple[pl.Series, pl.Series]:
    """The values, and a mask of the cells that have one and cannot be parsed."""
    if cells.dtype in (pl.Categorical, pl.Enum):
        cells = cells.cast(pl.String)
    if cells.dtype == pl.Decimal:
        cells = cells.cast(pl.Float64)
    if cells.dtype.is_float():
        cells = cells.fill_nan(None)
    if cells.dtype == pl.String:
        cells = cells.str.strip_chars()
        empty_texts = EMPTY_TEXTS if kind is CellKind.text else (*EMPTY_TEXTS, "None")
        is_empty = cells.is_in(list(empty_texts))
        cells = pl.select(pl.when(~is_empty).then(cells)).to_series()
    values = pl.select(_values(cells, kind, zones).cast(CELL_TYPES[kind])).to_series()
    return values, cells.is_not_null() & values.is_null()


def _values(cells: pl.Series, kind: CellKind, zones: TimeZones) -> pl.Expr:
    """The values of one kind, null for cells that are not of the kind."""
    values = pl.lit(cells)
    if cells.dtype == pl.Null or kind is CellKind.text:
        return values.cast(pl.String) if kind is CellKind.text else values
    if kind in (CellKind.time, CellKind.day):
        return _take_times(cells, kind, zones)
    if cells.dtype == pl.String:
        return _PARSERS[kind](values)
    if kind is CellKind.flag:
        return (values == 1).cast(pl.Int64)
    if kind is CellKind.number:
        return _take_numbers(values, cells.dtype)
    ids = _take_ids(values, cells.dtype)
    return _hash_large_ids(ids) if kind is CellKind.text_id else ids


def _take_numbers(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    numbers = values.cast(pl.Float64)
    is_single = dtype == pl.Float32
    return _take_finite(numbers.round_sig_figs(_FLOAT32_DIGITS) if is_single else numbers)


def _take_times(cells: pl.Series, kind: CellKind, zones: TimeZones) -> pl.Expr:
    if cells.dtype == pl.String:
        return pl.lit(_parse_zoned(cells, kind, zones))
    values = pl.lit(cells)
    if getattr(cells.dtype, "time_zone", None):
        return to_local_time(values, zones.target or "UTC")
    return _move(values, zones) if kind is CellKind.time else values


def _move(times: pl.Expr, zones: TimeZones) -> pl.Expr:
    """Times that state no zone, in the target's."""
    if zones.source is None or zones.source == zones.target:
        return times
    zoned = times.cast(pl.Datetime("us")).dt.replace_time_zone(
        zones.source, ambiguous="null", non_existent="null"
    )
    return to_local_time(zoned, zones.target or zones.source)


def find_stated_zones(text: pl.Series) -> set[bool]:
    """Whether times as text state a zone; both, if some do.

    >>> find_stated_zones(pl.Series(["2030-01-01 08:00:00Z", "2030-01-01 08:00", "", None]))
    {False, True}
    """
    cells = text.drop_nulls().str.strip_chars()
    is_zoned = cells.str.contains(_START_OF_TIME) & cells.str.contains(_ZONE)
    is_naive = cells.str.contains(_TIME)
    return {stated for stated, found in ((True, is_zoned), (False, is_naive)) if found.any()}


def _take_finite(number: pl.Expr) -> pl.Expr:
    return pl.when(number.abs() <= LARGEST_NUMBER).then(number)


def _parse_number(text: pl.Expr) -> pl.Expr:
    return _take_finite(text.cast(pl.Float64, strict=False))


def _parse_ids(text: pl.Expr) -> pl.Expr:
    decimal = text.str.extract(_ID).str.to_integer(strict=False)
    return decimal.fill_null(text.str.extract(_HEXADECIMAL).str.to_integer(base=16, strict=False))


def _take_ids(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype.is_float():
        is_whole = (values == values.floor()) & (values < _LARGEST_WHOLE_FLOAT)
        values = pl.when(is_whole).then(values)
    ids = values.cast(pl.Int64, strict=False)
    return pl.when(ids >= 0).then(ids)


def _parse_text_ids(text: pl.Expr) -> pl.Expr:
    """Numbers as they are, other texts by their hash."""
    has_digits = text.str.contains(rf"^\+?0*\d{{1,{_MAX_DIGITS}}}(?:\.0*)?$")
    number = pl.when(has_digits).then(_parse_ids(text))
    others = pl.when(~has_digits).then(text)
    return number.fill_null(others.map_batches(_hash_texts, return_dtype=pl.Int64()))


def _hash_large_ids(ids: pl.Expr) -> pl.Expr:
    """Whole numbers of more digits by the hash of their text, as in a file of texts."""
    large = pl.when(ids >= 10**_MAX_DIGITS).then(ids).cast(pl.String)
    return pl.coalesce(large.map_batches(_hash_texts, return_dtype=pl.Int64()), ids)


def _hash_texts(texts: pl.Series) -> pl.Series:
    distinct = texts.drop_nulls().unique()
    numbers = [
        int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> (64 - _HASH_BITS)
        for text in distinct
    ]
    return texts.replace_strict(distinct, pl.Series(numbers, dtype=pl.Int64), default=None)


def find_id_texts(cells: pl.Series) -> dict[int, str]:
    """The texts of ids that may be texts, by their numbers, where they are written otherwise.

    >>> list(find_id_texts(pl.Series(["12", "H-112", None])).values())
    ['H-112']
    """
    texts, _ = _decode(cells.unique())
    numbers, _ = _parse(texts, CellKind.text_id, NO_ZONES)
    pairs = pl.DataFrame({"number": numbers, "text": texts.cast(pl.String).str.strip_chars()})
    other = pairs.drop_nulls().filter(pl.col("number").cast(pl.String) != pl.col("text"))
    return dict(other.sort("text", descending=True).iter_rows())


def find_id_number(text: str) -> int | None:
    """The number of an id that may be a text; None for a number that is no id.

    >>> find_id_number("0012")
    12
    """
    numbers, _ = _parse(pl.Series([text]), CellKind.text_id, NO_ZONES)
    number: int | None = numbers[0]
    return number


def _parse_flags(text: pl.Expr) -> pl.Expr:
    word = text.str.to_lowercase()
    number = text.cast(pl.Float64, strict=False)
    return (
        pl.when(word.is_in(_TRUE_TEXTS) | (number == 1))
        .then(1)
        .when(word.is_in(_FALSE_TEXTS) | number.is_finite())
        .then(0)
    )


def _parse_times(text: pl.Expr, pattern: str = _TIME) -> pl.Expr:
    parts = text.str.extract_groups(pattern).struct
    day, fraction = parts.field("1"), parts.field("5").fill_null("")
    clock = [parts.field(str(group)).fill_null("00") for group in (2, 3, 4)]
    canonical = pl.format("{} {}:{}:{}{}", day, *clock, fraction)
    return canonical.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)


def _parse_zoned(text: pl.Series, kind: CellKind, zones: TimeZones) -> pl.Series:
    """Times as text, with a zone where the database states one.

    The steps are taken one by one: polars 2.1 panics in a conditional on converted literals.
    """
    cells = text.alias("text").to_frame()
    if zones.target is None:
        return cells.select(_PARSERS[kind](pl.col("text"))).to_series()
    zone = pl.col("text").str.extract(_ZONE, 2)
    clock = _PARSERS[kind](pl.col("text").str.replace(_ZONE, "${1}"))
    parts = cells.select(zone=zone, clock=clock, digits=zone.str.replace_all(r"\D", ""))
    digits = pl.col("digits").str.pad_end(4, "0").str.to_integer(strict=False)
    sign = 1 - 2 * pl.col("zone").str.starts_with("-").cast(pl.Int64)
    minutes = sign * (digits // 100 * 60 + digits % 100)
    offset = (minutes * _MICROSECONDS_PER_MINUTE).cast(pl.Duration("us"))
    utc = (pl.col("clock") - offset).dt.replace_time_zone("UTC")
    zoned = parts.select(to_local_time(utc, zones.target)).to_series()
    is_time = kind is CellKind.time
    clock = _move(pl.col("clock"), zones) if is_time else pl.col("clock")
    moved = parts.select(clock).to_series()
    return moved.zip_with(parts["zone"].is_null(), zoned)


_PARSERS: dict[CellKind, Callable[[pl.Expr], pl.Expr]] = {
    CellKind.id: _parse_ids,
    CellKind.text_id: _parse_text_ids,
    CellKind.number: _parse_number,
    CellKind.flag: _parse_flags,
    CellKind.time: _parse_times,
    CellKind.day: partial(_parse_times, pattern=_DAY),
}
"""From text without spaces around it to values."""


def find_type_problem(dtype: pl.DataType, kind: CellKind, time_zone: str | None) -> str | None:
    """What a Parquet column of this type lacks to be of the kind; None if it can be read."""
    if dtype in (pl.String, pl.Binary, pl.Categorical, pl.Enum, pl.Null):
        return None
    if kind in (CellKind.time, CellKind.day):
        if isinstance(dtype, pl.Datetime):
            return None if dtype.time_zone is None or time_zone else "times without a time zone"
        is_date = kind is CellKind.day and dtype == pl.Date
        return None if is_date else "times"
    if kind is CellKind.flag and dtype == pl.Boolean:
        return None
    return None if dtype.is_numeric() else "text" if kind is CellKind.text else "numbers"
