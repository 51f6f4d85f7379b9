"""What the codes of a MEDS data set mean: the mapping file, and how a code finds its row in it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.units import FRACTION_OR_PERCENT, LINEAR_CONVERSIONS, as_percent, linear
from flowsheet.errors import UsageError, did_you_mean

COLUMNS = ("code", "kind", "name", "unit", "convert", "delay_hours", "note")
KINDS = (
    *("icu_admission", "icu_discharge", "hospital_admission", "birth", "sex"),
    *("variable", "drug", "drug_start", "drug_end", "culture", "ignore"),
)
DRUGS = ("drug", "drug_start", "drug_end")
CONVERSIONS = ("none", *LINEAR_CONVERSIONS, FRACTION_OR_PERCENT, "running")
"""``running``: the code itself says that the thing runs, 1. A number multiplies."""

RULES: dict[str, pl.DataType] = {
    "code": pl.String(),
    "kind": pl.String(),
    "name": pl.String(),
    "unit": pl.String(),
    "convert": pl.String(),
    "delay_hours": pl.Float64(),
    "rule": pl.UInt32(),  # the row's number, from 0
}


@dataclass(frozen=True)
class Mapping:
    """The rows of a mapping file, checked; columns as in ``RULES``."""

    rules: pl.DataFrame

    @classmethod
    def read(cls, named: str) -> Mapping:
        """The shipped mapping of that name, or the CSV file at that path.

        Raises:
            UsageError: there is none, or a row of it cannot be what it should; file, line and
            column are named.
        """
        shipped = files("flowsheet.cohort") / "concepts" / f"meds_{named}_codes.csv"
        where = f"meds_{named}_codes.csv"
        try:
            if shipped.is_file():
                content = shipped.read_bytes()
            else:
                where = str(Path(named).expanduser().absolute())
                content = Path(where).read_bytes()
            rows = pl.read_csv(content, infer_schema=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            todo = "name a mapping that ships (mimic) or a CSV file with the columns " + ", ".join(
                COLUMNS
            )
            reason = str(error).split("\n", 1)[0]
            raise UsageError(
                f"the mapping cannot be read: {reason}", where=where, todo=todo
            ) from error
        return cls(_checked(rows, where))

    def names(self, *kinds: str) -> tuple[str, ...]:
        """The concepts of these kinds, in the catalogue's order."""
        named = set(self.rules.filter(pl.col("kind").is_in(kinds))["name"])
        return tuple(name for name in (*catalogue.variables(), *catalogue.drugs()) if name in named)

    def match(self, codes: pl.Series) -> pl.DataFrame:
        """(code, rule) of the codes that rows speak of: equal ones, else the longest that the code begins with."""
        code = pl.DataFrame({"code": codes})
        star = pl.col("code").str.ends_with("*")
        exact = code.join(self.rules.filter(~star).select("code", "rule"), on="code")
        starts = self.rules.filter(star).select(
            start=pl.col("code").str.strip_suffix("*"), rule="rule"
        )
        begun = _beginnings(code.join(exact, on="code", how="anti")).join(starts, on="start")
        length = pl.col("start").str.len_bytes()
        longest = begun.filter(length == length.max().over("code")).select("code", "rule")
        return pl.concat([exact, longest]).sort("code", "rule")


def _beginnings(codes: pl.DataFrame) -> pl.DataFrame:
    """(code, start) for each part of a code that ends at a ``//``, and for the whole as if it did."""
    parts = codes.with_columns(part=pl.col("code").str.split("//"))
    counted = parts.with_columns(n=pl.int_ranges(1, pl.col("part").list.len() + 1)).explode("n")
    return counted.select(
        "code", start=pl.col("part").list.head(pl.col("n")).list.join("//") + "//"
    )


def _checked(rows: pl.DataFrame, where: str) -> pl.DataFrame:
    lacking = [column for column in COLUMNS[:3] if column not in rows.columns]
    if lacking or rows.is_empty():
        what = f"there is no column {lacking[0]!r}" if lacking else "there are no rows"
        raise UsageError(
            f"the mapping is not one: {what}", where=where, todo=f"columns: {', '.join(COLUMNS)}"
        )
    absent = [pl.lit(None, pl.String).alias(c) for c in COLUMNS if c not in rows.columns]
    told = (
        rows.with_columns(absent)
        .select(pl.col(COLUMNS).str.strip_chars().replace("", None))
        .with_row_index("rule")
    )
    for row in told.iter_rows(named=True):
        _check(row, f"{where}, line {row['rule'] + 2}")
    again = told.filter(~pl.struct("code", "kind", "name").is_first_distinct())
    if again.height:
        line = int(again["rule"][0]) + 2
        raise UsageError(
            f"the code {again['code'][0]!r} comes twice",
            where=f"{where}, line {line}",
            todo="keep one",
        )
    delay = pl.col("delay_hours").cast(pl.Float64).fill_null(0.0)
    filled = told.with_columns(delay, pl.col("convert").fill_null("none"))
    return filled.select(list(RULES)).cast(pl.Schema(RULES))


def _check(row: dict[str, str], where: str) -> None:
    kind, name, convert = row["kind"], row["name"], row["convert"]
    code = row["code"] or ""
    if not code or "*" in code.removesuffix("//*"):
        what = f"the code {code!r} is none"
        raise UsageError(
            what,
            where=f"{where}, column code",
            todo="give a code, or CODE//* for all that begin so",
        )
    if kind not in KINDS:
        raise UsageError(
            f"there is no kind {kind!r}",
            where=f"{where}, column kind",
            todo=did_you_mean(kind or "", KINDS),
        )
    known = {
        "variable": catalogue.variables(),
        "sex": ["F", "M"],
        **dict.fromkeys(DRUGS, catalogue.drugs()),
    }
    if kind in known and name not in known[kind]:
        todo = did_you_mean(name or "", known[kind])
        raise UsageError(
            f"there is no {kind.split('_')[0]} called {name!r}",
            where=f"{where}, column name",
            todo=todo,
        )
    if convert and convert not in CONVERSIONS and not _is_number(convert):
        todo = f"a number to multiply with, or {did_you_mean(convert, CONVERSIONS)}"
        raise UsageError(
            f"there is no conversion {convert!r}", where=f"{where}, column convert", todo=todo
        )
    if row["delay_hours"] and not (
        _is_number(row["delay_hours"]) and float(row["delay_hours"]) >= 0
    ):
        raise UsageError(
            f"{row['delay_hours']!r} is no number of hours", where=f"{where}, column delay_hours"
        )


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def converted(value: pl.Expr, convert: pl.Expr) -> pl.Expr:
    """Values in the catalogue's unit."""
    branches = {name: linear(value, rule) for name, rule in LINEAR_CONVERSIONS.items()}
    branches |= {FRACTION_OR_PERCENT: as_percent(value), "running": pl.lit(1.0)}
    chosen: pl.Expr = value * convert.cast(pl.Float64, strict=False).fill_null(1.0)
    for name, expression in branches.items():
        chosen = pl.when(convert == name).then(expression).otherwise(chosen)
    return chosen


_HOURS = {"min": 60.0, "minute": 60.0, "hour": 1.0, "hr": 1.0, "h": 1.0, "day": 1 / 24}
_AMOUNTS = {"g": 1e6, "gram": 1e6, "grams": 1e6, "gm": 1e6, "mg": 1e3, "mcg": 1.0, "ug": 1.0}
_SAME = {"units": "u", "unit": "u", "iu": "u", "meq.": "meq"}


def dose_factor(unit: str | None, wanted: str, *, running: bool) -> float | None:
    """What turns a dose in ``unit`` into ``wanted``, or for one that is ``running`` into ``wanted``
    an hour.

    None where it cannot be told: another dimension, or an amount for the patient's weight against
    one without.

    >>> dose_factor("mcg/kg/min", "mcg/kg", running=True), dose_factor("grams", "mg", running=False)
    (60.0, 1000.0)
    >>> print(dose_factor("mg/hour", "mcg/kg", running=True))
    None
    """
    parts = (unit or "").lower().replace(" ", "").split("/")
    times = 1.0
    if running:
        if len(parts) < 2 or parts[-1] not in _HOURS:
            return None
        times = _HOURS[parts.pop()]
    have, want = [_SAME.get(part, part) for part in parts], wanted.lower().split("/")
    if have == want:
        return times
    if have[1:] == want[1:] and have[0] in _AMOUNTS and want[0] in _AMOUNTS:
        return times * _AMOUNTS[have[0]] / _AMOUNTS[want[0]]
    return None
