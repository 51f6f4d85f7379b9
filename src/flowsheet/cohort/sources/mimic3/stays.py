"""Stays out of ICUSTAYS, ADMISSIONS, PATIENTS and SERVICES, and the stay that a row of another table belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.schema import STAYS
from flowsheet.cohort.sources.mimic3.exclusions import Tally, moments, whole
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.reading import stream
from flowsheet.typing import Ints, Ints32

_HIDDEN_AGE = 150.0  # years; the database shifts the birth of patients over 89 by 300 years
_SECOND = 1_000_000  # microseconds
_NO_STAY = np.iinfo(np.int64).max
"""Stands for the stay of a row that has none, behind all others."""
_SMALL = 10_000_000
"""Ids up to this are looked up in a table; the database's have six digits."""
_YEAR = 365.2425 * 24  # hours


@dataclass(frozen=True)
class Stays:
    """The stays that are kept, and what is needed to find a row's stay."""

    table: pl.DataFrame
    """The contract's columns and ``hadm_id``, ascending by ``stay_id``."""
    known: Ints
    """Ids of all stays in ICUSTAYS, sorted."""
    attrition: dict[str, int]
    windows: pl.DataFrame
    """(subject_id, stay_id, start, end), of all sound stays: whose facts are whose, sorted by subject and start."""

    @property
    def ids(self) -> Ints:
        """Ids of the kept stays, sorted."""
        return np.asarray(self.table["stay_id"].to_numpy())


def read_stays(tables: Mapping[str, RawTable], options: Mimic3Options, tally: Tally) -> Stays:
    """Join, judge and window the stays."""
    icu = _read(
        tables["icustays"], tally, ("subject_id", "hadm_id", "icustay_id"), ("intime", "outtime")
    )
    icu = _distinct(icu, "icustays", "icustay_id", tally)
    admissions = _read(
        tables["admissions"], tally, ("subject_id", "hadm_id"), ("admittime", "dischtime")
    )
    backwards = pl.col("dischtime") < pl.col("admittime")
    admissions = tally.spoil(
        admissions, backwards, "admissions", "dischtime", "discharge_before_admission"
    )
    admissions = _distinct(admissions, "admissions", "hadm_id", tally)
    patients = _distinct(
        _read(tables["patients"], tally, ("subject_id",), ("dob",)), "patients", "subject_id", tally
    )
    attrition = {"in the raw tables": icu.height}
    stays = icu.join(admissions.drop("subject_id", "row"), on="hadm_id").join(
        patients.drop("row"), on="subject_id"
    )
    attrition["with their admission and patient"] = stays.height
    stays = stays.filter(
        pl.col("intime").is_not_null(), pl.col("outtime").is_not_null(), pl.col("dob").is_not_null()
    )
    attrition["with begin and end"] = stays.height
    backwards = pl.col("outtime") <= pl.col("intime")
    stays = tally.spoil(stays, backwards, "icustays", "outtime", "discharge_before_admission")
    attrition["that end after they begin"] = stays.height
    windows = _windows(stays, options)
    stays = _judged(stays, tables, options, tally, attrition)
    known = np.sort(icu["icustay_id"].drop_nulls().to_numpy())
    return Stays(_contract(stays), known, attrition, windows)


def _read(
    table: RawTable, tally: Tally, ids: tuple[str, ...], times: tuple[str, ...]
) -> pl.DataFrame:
    pieces = [
        moments(whole(piece, *ids), table.name, tally, *times) for piece in stream(table, tally)
    ]
    if not pieces:
        schema: dict[str, Any] = dict.fromkeys(table.columns, pl.String()) | dict.fromkeys(
            (*ids, "row"), pl.Int64()
        )
        return pl.DataFrame(schema=schema | dict.fromkeys(times, pl.Datetime("us")))
    return pl.concat(pieces)


def _distinct(rows: pl.DataFrame, table: str, key: str, tally: Tally) -> pl.DataFrame:
    again = ~pl.col(key).is_first_distinct() | pl.col(key).is_null()
    rows = rows.sort(pl.exclude("row"), nulls_last=True)
    return tally.spoil(rows, again, table, key, "duplicate_key")


def _judged(
    stays: pl.DataFrame,
    tables: Mapping[str, RawTable],
    options: Mimic3Options,
    tally: Tally,
    attrition: dict[str, int],
) -> pl.DataFrame:
    hours = (pl.col("intime") - pl.col("dob")).dt.total_seconds() / 3600
    age = pl.when(hours / _YEAR > _HIDDEN_AGE).then(options.age_over_89).otherwise(hours / _YEAR)
    long = (pl.col("outtime") - pl.col("intime")).dt.total_seconds() / 3600
    if options.first_stay_only:
        stays = stays.sort("subject_id", "intime", "icustay_id").unique(
            "subject_id", keep="first", maintain_order=True
        )
        attrition["the patient's first"] = stays.height
    stays = stays.with_columns(age=age).filter(pl.col("age") >= options.min_age)
    attrition[f"aged {options.min_age:g} or over"] = stays.height
    stays = stays.filter(long >= options.min_hours)
    attrition[f"of {options.min_hours:g} h or more"] = stays.height
    if options.max_hours is not None:
        stays = stays.filter(long <= options.max_hours)
        attrition[f"of {options.max_hours:g} h or less"] = stays.height
    if options.excluded_services:
        stays = stays.filter(~_service(stays, tables, tally).is_in(options.excluded_services))
        attrition[f"not under {', '.join(options.excluded_services)}"] = stays.height
    return stays


def _service(stays: pl.DataFrame, tables: Mapping[str, RawTable], tally: Tally) -> pl.Series:
    """The service that each stay begins under: the last before it begins, else the first after; "" where none is."""
    services = _read(tables["services"], tally, ("hadm_id",), ("transfertime",)).drop("row")
    pairs = stays.select("icustay_id", "hadm_id", "intime").join(services, on="hadm_id")
    later = pl.col("transfertime") > pl.col("intime")
    since = (pl.col("intime") - pl.col("transfertime")).abs()
    first = pairs.sort(pl.col("icustay_id"), later, since, "curr_service").unique(
        "icustay_id", keep="first"
    )
    found = stays.join(
        first.select("icustay_id", "curr_service"),
        on="icustay_id",
        how="left",
        maintain_order="left",
    )
    return found["curr_service"].fill_null("")


def _contract(stays: pl.DataFrame) -> pl.DataFrame:
    sex = pl.col("gender").str.to_uppercase()
    made = stays.select(
        stay_id="icustay_id",
        subject_id="subject_id",
        site=pl.col("dbsource").str.to_lowercase(),
        hospital_admitted_at="admittime",
        admitted_at="intime",
        observed_from=pl.lit(None),
        discharged_at="outtime",
        age="age",
        sex=pl.when(sex.is_in(["F", "M"])).then(sex),
        height_cm=pl.lit(None),
        weight_kg=pl.lit(None),
        unit="first_careunit",
        admission_type="admission_type",
        hadm_id="hadm_id",
    )
    return made.cast(pl.Schema({**STAYS, "hadm_id": pl.Int64()})).sort("stay_id")


def _windows(stays: pl.DataFrame, options: Mimic3Options) -> pl.DataFrame:
    """From when to when facts are a stay's: its tolerance before and after, as far as the neighbours leave room."""
    before, after = pl.duration(hours=options.before_hours), pl.duration(hours=options.after_hours)
    rows = stays.select("subject_id", "intime", "outtime", stay_id="icustay_id")
    rows = rows.sort("subject_id", "intime", "outtime", "stay_id")
    last = pl.col("outtime").shift(1).over("subject_id")
    over = pl.when(last < pl.col("intime")).then(last).when(last.is_not_null()).then("intime")
    rows = rows.with_columns(start=pl.max_horizontal(pl.col("intime") - before, over))
    next_start = pl.col("start").shift(-1).over("subject_id")
    end = pl.min_horizontal(pl.col("outtime") + after, next_start - pl.duration(microseconds=1))
    return rows.select("subject_id", "stay_id", "start", end=end)


class Places:
    """Where ids stand in a sorted list of them; small ones are looked up in a table, not searched."""

    def __init__(self, ids: Ints) -> None:
        self._ids = ids
        small = ids[(ids >= 0) & (ids < _SMALL)]
        self._table = np.full(int(small.max(initial=0)) + 2, -1, np.int32)
        self._table[small] = np.searchsorted(ids, small)

    def of(self, asked: Ints) -> Ints32:
        """The place of each; -1: nowhere."""
        end = len(self._table) - 1  # where nothing stands
        at = self._table[np.clip(asked, 0, end)]
        beyond = np.flatnonzero((asked < 0) | (asked >= end))
        if len(beyond):
            wanted = asked[beyond]
            found = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
            at[beyond] = np.where(self._ids[found] == wanted, found, -1) if len(self._ids) else -1
        return at


class Placing:
    """Which stay a row belongs to: the one that it names, or else the one of its patient at its time."""

    def __init__(self, stays: Stays) -> None:
        windows = stays.windows
        self._subjects = Places(np.unique(windows["subject_id"].to_numpy()))
        self._subject = windows["subject_id"].to_numpy()
        self._starts = windows["start"].to_physical().to_numpy()
        self._ends = windows["end"].to_physical().to_numpy()
        self._ids = windows["stay_id"].to_numpy()
        self._base = int(self._starts.min()) // _SECOND if len(self._starts) else 0
        self._span = int(self._ends.max()) // _SECOND - self._base + 3 if len(self._ends) else 3
        self._keys = self._key(self._subject, self._starts)
        self._known = Places(stays.known)
        # Of each known stay, and of none at the end: its number among the kept ones, and its window.
        self._number = np.append(Places(stays.ids).of(stays.known), np.int32(-1))
        self._first = np.full(len(self._number), _NO_STAY)
        self._last = np.full(len(self._number), -_NO_STAY)
        at = self._known.of(self._ids)
        self._first[at], self._last[at] = self._starts, self._ends

    def _key(self, subject: Ints, time: Ints) -> Ints:
        rank = self._subjects.of(subject).astype(np.int64)
        return np.asarray(
            rank * self._span + np.clip(time // _SECOND - self._base, -1, self._span - 2)
        )

    def place(self, rows: pl.DataFrame, table: str, time: str, tally: Tally) -> pl.DataFrame:
        """The rows of kept stays with ``stay``, its number; ``icustay_id`` may be null or absent,
        and is gone then.

        A stay that no other table knows is a defect; rows outside their stay's window are left out.
        """
        if rows[time].null_count():
            rows = rows.filter(pl.col(time).is_not_null())
        tells = "icustay_id" in rows.columns
        rows = rows if tells else rows.with_columns(icustay_id=pl.lit(None, pl.Int64))
        unnamed = rows["icustay_id"].is_null().to_numpy()
        stay = rows["icustay_id"].fill_null(_NO_STAY).to_numpy()
        if unnamed.any():
            stay = stay.copy()
            stay[unnamed] = self._by_time(rows.filter(pl.Series(unnamed)), time)
        at = self._known.of(stay)
        number = self._number[at]
        kept = number >= 0
        now = rows[time].to_physical().to_numpy()
        inside = kept & (now >= self._first[at]) & (now <= self._last[at])
        if tells:
            unknown = (at < 0) & (stay != _NO_STAY)
            tally.spoil(rows, pl.lit(pl.Series(unknown)), table, "icustay_id", "unknown_stay")
            tally.left_out[f"{table}: outside the stay"] += int(
                np.count_nonzero(kept) - np.count_nonzero(inside)
            )
            tally.left_out[f"{table}: without a stay, none at that time"] += int(
                np.count_nonzero(unnamed & ~kept)
            )
        placed = rows.drop("subject_id", "icustay_id").with_columns(stay=pl.Series(number))
        return placed.filter(pl.Series(inside))

    def _by_time(self, rows: pl.DataFrame, time: str) -> Ints:
        """Ids of the stays; ``_NO_STAY`` where there is none."""
        subject, now = (
            rows["subject_id"].fill_null(-1).to_numpy(),
            rows[time].to_physical().to_numpy(),
        )
        if not len(self._keys) or not len(subject):
            return np.full(len(subject), _NO_STAY)
        at = np.searchsorted(self._keys, self._key(subject, now), "right") - 1
        safe = np.maximum(at, 0)
        fits = (
            (at >= 0)
            & (self._subject[safe] == subject)
            & (now >= self._starts[safe])
            & (now <= self._ends[safe])
        )
        return np.where(fits, self._ids[safe], _NO_STAY)
