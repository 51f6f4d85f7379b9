"""The meaning of the codes of a MEDS data set: the mapping file, and how codes match its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.item_map import COMA_PARTS, COMA_TOTAL
from flowsheet.cohort.engine.unit_names import count_other_units
from flowsheet.cohort.units import (
    FRACTION_OR_PERCENT,
    LINEAR_CONVERSIONS,
    as_percent,
    fold_unit,
    linear,
)
from flowsheet.config.overrides import absolute_path
from flowsheet.errors import UsageError, did_you_mean

COLUMNS = ("code", "kind", "name", "unit", "convert", "delay_hours", "note", "ended_by")
REQUIRED_COLUMNS = ("code", "kind", "name")
KINDS = (
    *("icu_admission", "icu_discharge", "hospital_admission", "birth", "death", "sex"),
    *("age", "hospital_death", "variable", "draw", "drug", "drug_start", "drug_end", "drug_rate"),
    *("order", "order_end", "administration", "culture", "ignore"),
)
DRUGS = ("drug", "drug_start", "drug_end", "drug_rate")
IF_NUMBER = ("non_zero", "positive")
UNKNOWN_SPECIMEN = "unknown_specimen"
CONVERSIONS = (
    *("none", *LINEAR_CONVERSIONS, FRACTION_OR_PERCENT, "running", "ended", *IF_NUMBER),
    UNKNOWN_SPECIMEN,
)
"""``running`` and ``ended``: the code means that something runs (the value 1) or has ended (0);
``non_zero`` and ``positive``: only numbers of this kind mean that it runs, others say nothing;
``unknown_specimen``: a blood gas that may be venous, excluded if it looks so. A number is a factor.
"""

MAPPING: dict[str, pl.DataType] = {
    "code": pl.String(),
    "kind": pl.String(),
    "name": pl.String(),
    "unit": pl.String(),
    "convert": pl.String(),
    "delay_hours": pl.Float64(),
    "mapping_row": pl.UInt32(),  # from 0
    "result_row": pl.UInt32(),  # of a draw: the mapping_row of its results
    "end_row": pl.UInt32(),  # of what lasts: the mapping_row of its end
}


@dataclass(frozen=True)
class CodeMapping:
    """The validated rows of a mapping file, with the columns of ``MAPPING``."""

    rows: pl.DataFrame

    @classmethod
    def read(cls, name: str) -> CodeMapping:
        """The shipped mapping of that name, or the CSV file at that path.

        Raises:
            UsageError: there is none, or a row is invalid; the message names file, line and column.
        """
        shipped = files("flowsheet.cohort") / "concepts" / f"meds_{name}_codes.csv"
        where = f"meds_{name}_codes.csv"
        try:
            if shipped.is_file():
                content = shipped.read_bytes()
            else:
                where = str(absolute_path(name))
                content = Path(where).read_bytes()
            rows = pl.read_csv(content, infer_schema=False)
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            reason = str(error).split("\n", 1)[0]
            columns = ", ".join(COLUMNS)
            raise UsageError(
                f"the mapping cannot be read: {reason}",
                where=where,
                todo="use a shipped mapping, mimic or openicu, or a CSV file with the columns "
                f"{columns}",
            ) from error
        return cls(_validate(rows, where))

    def names(self, *kinds: str) -> tuple[str, ...]:
        """The variables or drugs of these kinds, in the order of the catalogue.

        The coma score's total is among them if its parts are.
        """
        mapped = set(self.rows.filter(pl.col("kind").is_in(kinds))["name"])
        mapped |= {COMA_TOTAL} if mapped.issuperset(COMA_PARTS) else set()
        known = (*catalogue.variables(), *catalogue.drugs())
        return tuple(name for name in known if name in mapped)

    def match(self, codes: pl.Series) -> pl.DataFrame:
        """(code, mapping_row) of the codes that match rows of the mapping.

        An equal code is preferred, then the longest pattern ``CODE//*`` that the code begins with.
        """
        code = pl.DataFrame({"code": codes})
        is_pattern = pl.col("code").str.ends_with("*")
        equal = code.join(self.rows.filter(~is_pattern).select("code", "mapping_row"), on="code")
        prefixes = self.rows.filter(is_pattern).select(
            "mapping_row", prefix=pl.col("code").str.strip_suffix("*")
        )
        others = code.join(equal, on="code", how="anti")
        matches = _list_prefixes(others).join(prefixes, on="prefix")
        length = pl.col("prefix").str.len_bytes()
        longest = matches.filter(length == length.max().over("code"))
        return pl.concat([equal, longest.select("code", "mapping_row")]).sort("code", "mapping_row")


def convert_values(value: pl.Expr, convert: pl.Expr) -> pl.Expr:
    """Values in the catalogue's unit; ``convert`` names the conversion of each."""
    conversions = {name: linear(value, rule) for name, rule in LINEAR_CONVERSIONS.items()}
    conversions |= {FRACTION_OR_PERCENT: as_percent(value), "running": pl.lit(1.0)}
    conversions["ended"] = pl.lit(0.0)
    conversions |= {
        "non_zero": pl.when(value != 0).then(1.0),
        "positive": pl.when(value > 0).then(1.0),
    }
    converted: pl.Expr = value * convert.cast(pl.Float64, strict=False).fill_null(1.0)
    for name, expression in conversions.items():
        converted = pl.when(convert == name).then(expression).otherwise(converted)
    return converted


_HOURS = {"min": 60.0, "minute": 60.0, "hour": 1.0, "hr": 1.0, "h": 1.0, "day": 1 / 24}
_AMOUNTS = {"g": 1e6, "gram": 1e6, "grams": 1e6, "gm": 1e6, "mg": 1e3, "mcg": 1.0}
_SYNONYMS = {"units": "u", "unit": "u", "iu": "u"}


def dose_factor(unit: str | None, catalogue_unit: str, *, running: bool) -> float | None:
    """The factor that converts a dose to the catalogue's unit, or a rate to that unit per hour.

    None where there is no conversion: the dimensions differ, or only one unit is per weight.

    >>> dose_factor("mcg/kg/min", "mcg/kg", running=True), dose_factor("grams", "mg", running=False)
    (60.0, 1000.0)
    >>> print(dose_factor("mg/hour", "mcg/kg", running=True))
    None
    """
    parts = fold_unit(unit or "").split("/")
    per_hour = 1.0
    if running:
        if len(parts) < 2 or parts[-1] not in _HOURS:
            return None
        per_hour = _HOURS[parts.pop()]
    source = [_SYNONYMS.get(part, part) for part in parts]
    target = fold_unit(catalogue_unit).split("/")
    if source == target:
        return per_hour
    if source[1:] == target[1:] and source[0] in _AMOUNTS and target[0] in _AMOUNTS:
        return per_hour * _AMOUNTS[source[0]] / _AMOUNTS[target[0]]
    return None


def _list_prefixes(codes: pl.DataFrame) -> pl.DataFrame:
    """(code, prefix) for each part of a code up to a ``//``, and for the whole code with ``//``."""
    parts = codes.with_columns(part=pl.col("code").str.split("//"))
    n_parts = pl.int_ranges(1, pl.col("part").list.len() + 1)
    numbered = parts.with_columns(n=n_parts).explode("n")
    prefix = pl.col("part").list.head(pl.col("n")).list.join("//") + "//"
    return numbered.select("code", prefix=prefix)


def count_units_of_codes(codes: pl.DataFrame, mapping: CodeMapping, counts: Counter[str]) -> None:
    """Count rows whose code ends in another unit than the mapping's (``LAB//50912//umol/L``).

    Args:
        codes: (code, rows, mapping_row).
        mapping: the mapping; the end of a code is what ``*`` stands for in it.
        counts: receives the number of rows by variable and unit; the rows are kept.
    """
    no_number = ("running", "ended", *IF_NUMBER, FRACTION_OR_PERCENT)
    mapped = mapping.rows.filter(
        ~pl.col("convert").is_in(no_number), pl.col("code").str.ends_with("//*"), kind="variable"
    )
    mapped = mapped.select(
        "mapping_row", "name", expected="unit", start=pl.col("code").str.head(-1)
    )
    found = codes.join(mapped, on="mapping_row")
    found = found.filter(pl.col("code").str.starts_with(pl.col("start")))
    unit = pl.col("code").str.strip_prefix(pl.col("start"))
    count_other_units(found.with_columns(unit=unit, len="rows"), "codes", counts)


def _validate(rows: pl.DataFrame, where: str) -> pl.DataFrame:
    missing = [column for column in REQUIRED_COLUMNS if column not in rows.columns]
    if missing or rows.is_empty():
        what = f"there is no column {missing[0]!r}" if missing else "there are no rows"
        raise UsageError(
            f"the file is not a mapping: {what}",
            where=where,
            todo=f"columns: {', '.join(COLUMNS)}",
        )
    absent = [pl.lit(None, pl.String).alias(c) for c in COLUMNS if c not in rows.columns]
    cells = rows.with_columns(absent).select(pl.col(COLUMNS).str.strip_chars().replace("", None))
    cells = cells.with_row_index("mapping_row")
    for row in cells.iter_rows(named=True):
        _check_row(row, f"{where}, line {row['mapping_row'] + 2}")
    repeated = cells.filter(~pl.struct("code", "kind", "name").is_first_distinct())
    if repeated.height:
        line = int(repeated["mapping_row"][0]) + 2
        raise UsageError(
            f"the code {repeated['code'][0]!r} is listed twice",
            where=f"{where}, line {line}",
            todo="remove one of the two lines",
        )
    delay = pl.col("delay_hours").cast(pl.Float64).fill_null(0.0)
    filled = cells.with_columns(delay, pl.col("convert").fill_null("none"))
    draws = pl.when(kind="draw").then("name")
    filled = _add_named_row(filled, draws, "result_row", where)
    filled = _add_named_row(filled, pl.col("ended_by"), "end_row", where)
    return filled.select(list(MAPPING)).cast(pl.Schema(MAPPING))


def _add_named_row(rows: pl.DataFrame, code: pl.Expr, column: str, where: str) -> pl.DataFrame:
    """Add the ``mapping_row`` of the line of a variable that other lines name.

    Args:
        rows: the lines.
        code: the code that a line names; null where it names none.
        column: ``result_row``, or ``end_row``, which is a line of the same variable.
        where: the file.
    """
    keys = ["_code", "name"] if column == "end_row" else ["_code"]
    named_by, what = _NAMED_ROWS[column]
    variables = rows.filter(kind="variable").select(
        "name", pl.col("mapping_row").alias(column), _code="code"
    )
    joined = rows.with_columns(code.alias("_code")).join(
        variables.select(*keys, column), on=keys, how="left", maintain_order="left"
    )
    unknown = joined.filter(pl.col(column).is_null() & pl.col("_code").is_not_null())
    if unknown.height:
        raise UsageError(
            f"there is no line of kind variable with the code {unknown['_code'][0]!r}",
            where=f"{where}, line {int(unknown['mapping_row'][0]) + 2}, column {named_by}",
            todo=f"name the code of {what}",
        )
    return joined.drop("_code")


_NAMED_ROWS = {
    "result_row": ("name", "the results of this draw"),
    "end_row": ("ended_by", "the rows with which the variable becomes 0"),
}
"""The column that names a line, and what the line is."""


def _check_row(row: dict[str, str], where: str) -> None:
    code = row["code"] or ""
    if not code or "*" in code.removesuffix("//*"):
        raise UsageError(
            f"{code!r} is not a valid code",
            where=f"{where}, column code",
            todo="write a code, or CODE//* for all codes that begin with CODE//",
        )
    kind = row["kind"]
    if kind not in KINDS:
        raise UsageError(
            f"there is no kind {kind!r}",
            where=f"{where}, column kind",
            todo=did_you_mean(kind or "", KINDS),
        )
    names = {
        "variable": catalogue.variables(),
        "sex": ["F", "M"],
        **dict.fromkeys(DRUGS, catalogue.drugs()),
    }
    name = row["name"]
    is_text = kind == "sex" and not name  # the row's text says it
    if kind in names and name not in names[kind] and not is_text:
        raise UsageError(
            f"there is no {kind.split('_')[0]} called {name!r}",
            where=f"{where}, column name",
            todo=did_you_mean(name or "", names[kind]),
        )
    convert = row["convert"]
    if convert and convert not in CONVERSIONS and not _is_number(convert):
        raise UsageError(
            f"there is no conversion {convert!r}",
            where=f"{where}, column convert",
            todo=f"a factor, or {did_you_mean(convert, CONVERSIONS)}",
        )
    delay = row["delay_hours"]
    if delay and not (_is_number(delay) and float(delay) >= 0):
        raise UsageError(
            f"{delay!r} is not a number of hours",
            where=f"{where}, column delay_hours",
            todo="write a number, 0 or more",
        )


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False
