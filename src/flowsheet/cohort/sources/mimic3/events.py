"""Events out of CHARTEVENTS, LABEVENTS, OUTPUTEVENTS and PROCEDUREEVENTS_MV.

On the way through a table each row becomes (stay, time, known_at, code, value) in the catalogue's
unit, ``code`` being the row of the catalogue's item. What depends on several rows (duplicates, the
sum of urine, the whole of a coma score, the specimen of a blood gas) waits for :func:`events`,
which sees all rows of some stays at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EVENTS, empty_table
from flowsheet.cohort.sources.mimic3.exclusions import (
    Tally,
    moments,
    numbers,
    whole,
)
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.ranking import as_before, in_turn
from flowsheet.cohort.sources.mimic3.reading import Wanted, stream
from flowsheet.cohort.sources.mimic3.stays import Placing
from flowsheet.cohort.spill import Spill
from flowsheet.cohort.units import FRACTION_OR_PERCENT, IDENTITY, LINEAR_CONVERSIONS, as_percent
from flowsheet.typing import Bools, Ints32

_INTUBATED = 0.0
"""Stands for the verbal response of an intubated patient."""
_REPEAT_HOURS = 4
"""A ventilation of PROCEDUREEVENTS_MV is said again so often while it lasts."""
_SILENT_MODES = ("other", "other/remarks", "standby", "none")
_OXYGEN_ONLY = (
    *(
        "nasal cannula",
        "cannula",
        "face tent",
        "aerosol-cool",
        "trach mask",
        "hi flow neb",
        "high flow neb",
    ),
    *(
        "non-rebreather",
        "venti mask",
        "medium conc mask",
        "vapotherm",
        "t-piece",
        "high flow nasal cannula",
    ),
    *("hood", "hut", "transtrachealcat", "heated neb", "ultrasonic neb", "vapomist"),
)
"""Devices for patients without a ventilator (MIT-LCP/mimic-code ventilation_classification)."""
_WORDS = (
    "gcs_verbal",
    "crp",
    "specimen",
    "ventilator_setting",
    "ventilator_mode",
    "oxygen_device",
    "extubated",
)
"""Conversions that look at words."""
_COMA = ("egcs", "mgcs", "vgcs", "gcs")
_PART = pl.Enum(["rest", "arterial", "coma", "urine", "specimen"])
"""What depends on several rows is told apart from the rest."""
_COLUMNS = ["stay", "time", "known_at", "code", "value"]


@lru_cache(maxsize=1)
def items() -> pl.DataFrame:
    """The catalogue's items with ``code`` (the row, which is also the rank among items of one
    name), the place of their name in the alphabet (``order``), how they are to be treated, and
    bounds."""
    named = catalogue.mimic3_items()["convert"]
    conversions = [LINEAR_CONVERSIONS.get(name, IDENTITY) for name in named]
    bounds = catalogue.ranges().rename({"variable": "name"})
    return (
        catalogue.mimic3_items()
        .with_row_index("code")
        .with_columns(
            pl.col("code").cast(pl.Int32),
            order=pl.col("name").rank("dense").cast(pl.Int64),
            factor=pl.Series([conversion.factor for conversion in conversions]),
            offset=pl.Series([conversion.offset for conversion in conversions]),
            worded=pl.col("convert").is_in(_WORDS),
            share=pl.col("convert") == FRACTION_OR_PERCENT,
            part=pl.when(pl.col("convert") == "arterial")
            .then(pl.lit("arterial"))
            .when(pl.col("name").is_in(_COMA))
            .then(pl.lit("coma"))
            .when(pl.col("name").is_in(["urine", "specimen"]))
            .then("name")
            .otherwise(pl.lit("rest"))
            .cast(_PART),
        )
        .join(bounds, on="name", how="left", maintain_order="left")
        .with_columns(
            low=pl.when(pl.col("convert").is_in(["gcs_verbal", "specimen"]))
            .then(0.0)
            .otherwise("low"),
            high=pl.when(pl.col("convert") == "specimen").then(1.0).otherwise("high"),
        )
        .with_columns(  # what is taken away is bounded by its size
            low=pl.when(pl.col("factor") < 0).then(-pl.col("high")).otherwise("low"),
            high=pl.when(pl.col("factor") < 0).then(-pl.col("low")).otherwise("high"),
        )
    )


@dataclass(frozen=True)
class Reader:
    """What every table's pass needs."""

    placing: Placing
    options: Mimic3Options
    tally: Tally
    spill: Spill

    def chart(self, table: RawTable) -> None:
        """One pass over CHARTEVENTS."""
        for piece in self._pieces(table, "charttime", "storetime"):
            rows = self.tally.leave_out(
                piece, _flag("error", piece), "chartevents: charted in error"
            )
            self._keep(
                table, rows, rows.select(_known("charttime", "storetime")).to_series(), "valuenum"
            )

    def labs(self, table: RawTable) -> None:
        """One pass over LABEVENTS."""
        delay = pl.duration(seconds=round(self.options.lab_delay_hours * 3600))
        for rows in self._pieces(table, "charttime"):
            self._keep(
                table, rows, rows.select(pl.col("charttime") + delay).to_series(), "valuenum"
            )

    def outputs(self, table: RawTable) -> None:
        """One pass over OUTPUTEVENTS."""
        for piece in self._pieces(table, "charttime", "storetime"):
            rows = self.tally.leave_out(
                piece, _flag("iserror", piece), "outputevents: charted in error"
            )
            self._keep(
                table, rows, rows.select(_known("charttime", "storetime")).to_series(), "value"
            )

    def procedures(self, table: RawTable) -> None:
        """One pass over PROCEDUREEVENTS_MV: 1 while a ventilation lasts, 0 at its end and at an extubation."""
        for piece in self._pieces(table, "starttime", "endtime", "storetime"):
            rows = self.tally.leave_out(
                piece, _is("statusdescription", "rewritten"), "procedureevents_mv: rewritten"
            )
            rows = self.placing.place(rows, table.name, "starttime", self.tally)
            rows = rows.join(_of(table.name), on="itemid")
            start, end = pl.col("starttime"), pl.coalesce("endtime", "starttime")
            running = rows.filter(pl.col("convert") == "interval", end > start)
            again = pl.datetime_ranges(start, end, interval=f"{_REPEAT_HOURS}h", closed="left")
            on = running.with_columns(time=again, value=1.0).explode("time")
            off = rows.with_columns(
                time=pl.when(pl.col("convert") == "interval").then(end).otherwise(start), value=0.0
            )
            said = pl.concat([on, off]).with_columns(known_at=_known("time", "storetime"))
            self.spill.add("events", said.select(_COLUMNS))

    def _pieces(self, table: RawTable, *times: str) -> Iterator[pl.DataFrame]:
        ids = ["subject_id", "itemid", *(["icustay_id"] if "icustay_id" in table.columns else [])]
        wanted = Wanted("itemid", _of(table.name)["itemid"].unique())
        for rows in stream(table, self.tally, wanted):
            yield moments(whole(rows, *ids), table.name, self.tally, *times)
        self.tally.unmapped(table.name, wanted.others, wanted.odd)

    def _keep(self, table: RawTable, rows: pl.DataFrame, known_at: pl.Series, number: str) -> None:
        rows = rows.drop("storetime", strict=False).with_columns(known_at=known_at)
        rows = self.placing.place(rows, table.name, "charttime", self.tally)
        rows = self._valued(table.name, rows.rename({"charttime": "time"}), number)
        self.spill.add("events", rows.select(_COLUMNS))

    def _valued(self, table: str, rows: pl.DataFrame, number: str) -> pl.DataFrame:
        """The rows with their ``code`` and ``value`` in the catalogue's unit; what has none is counted."""
        read = numbers(rows.with_columns(_number=pl.col(number)), "_number")
        if number == "valuenum" and not rows.schema[number].is_numeric():
            unread = pl.col("_number").is_null() & (pl.col(number) != "")
            read = self.tally.spoil(read, unread, table, number, "number")
        read = _coded(read, table)
        values = read["_number"].round(6)
        if len(at := np.flatnonzero(_converted()[read["code"].to_numpy()])):
            values = values.scatter(at, _in_units(read[at]))
        bounds = items().select("low", "high")[read["code"]]
        read = read.select("stay", "time", "known_at", "code", *bounds, value=values)
        nothing, impossible = pl.col("value").is_null(), ~pl.col("value").is_between("low", "high")
        names = pl.col("code").replace_strict(items()["code"], items()["name"])
        reason = (
            pl.when(nothing & pl.col("code").is_in(items().filter("worded")["code"].implode()))
            .then(pl.lit(f"{table}: words that say nothing"))
            .when(nothing)
            .then(pl.lit(f"{table}: no number"))
            .otherwise(pl.lit(f"{table}: impossible: ") + names)
        )
        return self.tally.leave_out_by(read, nothing | impossible, reason)


def _coded(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """The rows with the ``code`` of their item; once more for an item that says a second thing."""
    asked = rows["itemid"].to_numpy()
    first, *more = (codes[asked] for codes in _codes(table))
    parts = [rows.with_columns(code=pl.Series(first))]
    for code in more:
        at = np.flatnonzero(code >= 0)
        parts.append(rows[at].with_columns(code=pl.Series(code[at])))
    return pl.concat(parts)


def _in_units(rows: pl.DataFrame) -> pl.Series:
    """Values of items that are charted in other units than the catalogue's, or in words."""
    rows = rows.with_columns(
        items().select("convert", "worded", "share", "factor", "offset")[rows["code"]]
    )
    number = pl.col("_number")
    measured = (
        pl.when("share")
        .then(as_percent(number))
        .otherwise(number * pl.col("factor") + pl.col("offset"))
        .round(6)
    )
    return rows.select(
        pl.when("worded").then(_worded(rows.columns)).otherwise(measured)
    ).to_series()


def _worded(columns: list[str]) -> pl.Expr:
    """The value of rows whose words matter."""
    word = pl.col("value").str.strip_chars().str.to_lowercase()
    convert, number = pl.col("convert"), pl.col("_number")
    per_litre = (
        pl.when(pl.col("valueuom").str.to_lowercase() == "mg/dl")
        .then(number * 10)
        .otherwise(number)
        if "valueuom" in columns
        else number
    )
    return (
        pl.when(convert == "gcs_verbal")
        .then(pl.when(word.str.contains("ett|et/trach")).then(_INTUBATED).otherwise(number))
        .when(convert == "crp")
        .then(per_litre)
        .when(convert == "specimen")
        .then(pl.when(word.str.starts_with("art")).then(1.0).when(word != "").then(0.0))
        .when(convert == "ventilator_setting")
        .then(pl.when(number.is_not_null() | (word != "")).then(1.0))
        .when(convert == "ventilator_mode")
        .then(pl.when((word != "") & ~word.is_in(_SILENT_MODES)).then(1.0))
        .when(convert == "oxygen_device")
        .then(pl.when(word == "ventilator").then(1.0).when(word.is_in(_OXYGEN_ONLY)).then(0.0))
        .when(convert == "extubated")
        .then(pl.when(word.is_in(["extubated", "self extubation"])).then(0.0))
    )


@lru_cache(maxsize=16)
def _of(table: str) -> pl.DataFrame:
    return items().filter(pl.col("table") == table).select("itemid", "code", "convert")


@lru_cache(maxsize=16)
def _codes(table: str) -> list[Ints32]:
    """For each item id the first code that it has in the table, then the second, and so on; -1: no more."""
    rows = _of(table).with_columns(turn=pl.int_range(pl.len()).over("itemid")).partition_by("turn")
    tables = np.full((len(rows), int(_of(table)["itemid"].to_numpy().max()) + 1), -1, np.int32)
    for codes, of_turn in zip(tables, rows, strict=True):
        codes[of_turn["itemid"].to_numpy()] = of_turn["code"].to_numpy()
    return list(tables)


@lru_cache(maxsize=1)
def _converted() -> Bools:
    """For each code, whether what is charted has to be converted."""
    as_it_is = (
        ~pl.col("worded") & ~pl.col("share") & (pl.col("factor") == 1) & (pl.col("offset") == 0)
    )
    return items().select(~as_it_is).to_series().to_numpy()


def _known(time: str, stored: str) -> pl.Expr:
    return pl.max_horizontal(time, stored)


def _flag(column: str, frame: pl.DataFrame) -> pl.Expr:
    if frame.schema[column].is_numeric():
        return pl.col(column) == 1
    return pl.col(column).cast(pl.String).str.strip_chars().is_in(["1", "1.0"])


def _is(column: str, word: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase() == word


def events(
    rows: pl.DataFrame, ids: pl.Series, options: Mimic3Options, tally: Tally
) -> pl.DataFrame:
    """All rows of some stays as the contract's events, in its order: one value a stay, moment and
    variable.

    ``ids`` are those of the stays by number. Of several values, the one that was in the record
    first stays, then the item named first in the catalogue.
    """
    if rows.is_empty():
        return empty_table("events")
    rows = rows.with_columns(items().select("part", "order")[rows["code"]])
    plain = pl.col("part") == "rest"
    others = rows.filter(~plain)
    parts = {part: others.filter(pl.col("part") == part) for part in _PART.categories} | {
        "rest": rows.filter(plain)
    }
    parts["arterial"] = _arterial(parts["arterial"], _first(parts["specimen"], tally), tally)
    parts["urine"] = _urine(_first(parts["urine"], tally), tally)
    parts["coma"] = _coma(_first(parts["coma"], tally), options, tally)
    columns = [*_COLUMNS, "order"]
    kept = pl.concat(
        [parts[part].select(columns) for part in ("rest", "arterial", "urine", "coma")],
        rechunk=True,
    )
    made = _one_each(kept, tally)
    made = made.with_columns(stay_id=ids[made["stay"]], variable=_names()[made["order"] - 1])
    return made.select(list(EVENTS)).cast(pl.Schema(EVENTS))


@lru_cache(maxsize=1)
def _names() -> pl.Series:
    """The variables in their order, which counts from 1."""
    return items().unique("order").sort("order")["name"]


def _arterial(gases: pl.DataFrame, specimens: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Blood gases without those whose specimen was of other blood."""
    other = specimens.filter(pl.col("value") == 0.0).select("stay", "time", _other=True)
    gases = gases.join(other, on=["stay", "time"], how="left", maintain_order="left")
    return tally.leave_out(gases, pl.col("_other"), "labevents: blood gas that is not arterial")


def _first(rows: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """One row a stay, moment and item: the first in the record, then the smallest value."""
    rows = rows.sort("stay", "time", "code", "known_at", "value")
    return tally.leave_out(rows, as_before("stay", "time", "code"), "charted more than once")


def _one_each(rows: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """One row a stay, moment and variable, in the contract's order."""

    def thin(tied: pl.DataFrame) -> pl.DataFrame:
        tied = tally.leave_out(tied, as_before("stay", "time", "code"), "charted more than once")
        return tally.leave_out(
            tied, as_before("stay", "time", "order"), "another item said it already"
        )

    return in_turn(rows, ("stay", "time", "order"), ["time", "known_at", "code", "value"], thin)


def _urine(rows: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """What came out at one time, less the irrigation that went in."""
    summed = rows.group_by("stay", "time", maintain_order=True).agg(
        pl.col("known_at").max(), pl.col("code", "order").first(), value=pl.col("value").sum()
    )
    top = catalogue.variable("urine").high
    return tally.leave_out(
        summed, ~pl.col("value").is_between(0, top), "outputevents: impossible: sum of urine"
    )


def _coma(rows: pl.DataFrame, options: Mimic3Options, tally: Tally) -> pl.DataFrame:
    """The coma score's total where all its parts were charted at one time, and the rule for intubated patients."""
    rows = rows.join(items().select("code", "name"), on="code", maintain_order="left")
    parts = rows.filter(pl.col("name") != "gcs")
    wide = parts.group_by("stay", "time", maintain_order=True).agg(
        pl.col("known_at").max(),
        parts=pl.col("name").n_unique(),
        value=pl.col("value").sum(),
        intubated=((pl.col("name") == "vgcs") & (pl.col("value") == _INTUBATED)).any(),
    )
    wide = wide.filter((pl.col("parts") == 3) | pl.col("intubated"))
    if options.intubated_verbal == "as_charted":
        wide = wide.with_columns(value=pl.col("value") + pl.col("intubated")).filter(
            pl.col("parts") == 3
        )
    elif options.intubated_verbal == "normal":
        wide = wide.with_columns(value=pl.when("intubated").then(15.0).otherwise("value"))
    said = rows.filter(pl.col("name") == "gcs").join(
        wide, on=["stay", "time"], how="anti", maintain_order="left"
    )
    if options.intubated_verbal == "missing":
        wide = wide.filter(~pl.col("intubated"))
    verbal = (pl.col("name") == "vgcs") & (pl.col("value") == _INTUBATED)
    rest = rows.filter(pl.col("name") != "gcs")
    if options.intubated_verbal == "as_charted":
        rest = rest.with_columns(value=pl.when(verbal).then(1.0).otherwise("value"))
    else:
        rest = tally.leave_out(rest, verbal, "verbal response of an intubated patient")
    gcs = items().filter(pl.col("name") == "gcs").head(1).select("code", "name", "order", "part")
    return pl.concat([rest, said, wide.join(gcs, how="cross").select(rest.columns)])
