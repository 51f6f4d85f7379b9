"""Cohorts that YAIB-cohorts made: hourly tables with a label, from MIMIC, eICU, HiRID or AUMCdb.

van de Water et al., Yet Another ICU Benchmark, ICLR 2024, arXiv:2306.05109; the files are written
by https://github.com/rvandewater/YAIB-cohorts. A folder holds ``dyn.parquet`` (a row an hour, a
column a measurement), ``outc.parquet`` (a label an hour) and ``sta.parquet`` (a row a stay: age,
sex, height, weight).

**Time.** Hour h covers [h, h + 1) after admission (ricu rounds times down), and a value is the
hour's median, or its sum for urine: it is true and known at the hour's end, h + 1. Admission is
``EPOCH``. The last hour is the one of discharge, of the seventh day's end, or of six hours after
onset, whichever is first: the record ends there.

**Label.** ``R/sepsis.R`` and its ``outcome_window(c(6, 6))`` label the hours from six before onset
to six after it, so the onset's hour is six after the first hour labelled true. YAIB takes the first
onset alone and stops looking six hours later: an episode has no end. A stay whose label turns false
again was not made in that way and is set aside.

**Known.** Onset is the hour of a SOFA rise, from 48 h before suspicion to 24 h after it; suspicion
is the earlier of culture and antibiotic, the antibiotic at most 72 h after the culture
(``ricu::susp_inf``) and given for 72 h on (``abx_cont``). Only then is the definition met for
certain: up to 48 + 72 + 72 h after the onset that it dates back. As the record stops six hours
after onset, no model can be told its label in time.

**Subjects.** The files name stays, not patients. A column ``subject_id`` in ``sta.parquet`` is
taken where somebody adds it; without one each stay counts as its own subject, and a readmission
cannot be kept out of the other split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import Field

from flowsheet.cohort.schema import EPISODES, EPOCH, EVENTS, STAYS
from flowsheet.cohort.sources.base import DEFECTS, SOURCES, Source, StayBatch
from flowsheet.cohort.sources.yaib import tables as _yaib
from flowsheet.config import FrozenModel
from flowsheet.state.hashing import digest, file_digest

SAME = (
    "alb alp alt ast basos be bicar bili bili_dir bnd bun ca cai ck ckmb cl crea crp dbp egcs eos etco2 fgn fio2 gcs "
    "glu hct hgb hr inr_pt k lact lymph map mch mchc mcv methb mg mgcs na neut o2sat pco2 ph phos plt po2 pt ptt rass "
    "rbc rdw resp sao2 sbp temp tnt tri urine vgcs wbc"
)
"""ricu's concepts that bear the catalogue's name and unit; YAIB's cohorts hold 48 of them."""

COLUMNS = {name: name for name in SAME.split()} | {"tgcs": "gcs"}
"""Columns of ``dyn`` and the variables that they are."""

SEXES = {"female": "F", "f": "F", "male": "M", "m": "M"}
STAYS_A_BATCH = 4_000
_KEYS = {"stay_id", "time"}


class YaibOptions(FrozenModel):
    """How the label is read."""

    label_lead_hours: Annotated[int, Field(ge=0, le=168)] = 6
    """Hours before onset from which the label is true."""
    label_known_after_hours: Annotated[float, Field(ge=0, le=10_000)] = 192.0
    """Hours after onset until the label counts as known (see the module's notes)."""


@SOURCES.register("yaib")
class Yaib(Source):
    """A YAIB cohort, some thousand stays at a time."""

    Options: ClassVar[type[FrozenModel]] = YaibOptions
    licence: str = "as the database states it that the cohort was made from"
    rules: ClassVar[tuple[str, ...]] = (
        "in_every_file",
        "duplicate_stay",
        "hour_number",
        "duplicate_hour",
        "missing_hour",
        "same_hours",
        "label",
        "label_returns",
    )

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        assert path is not None
        self._cohort = _yaib.Cohort.open(path, set(COLUMNS))
        present = set(self._cohort.schemas["dyn"])
        self._columns = {column: name for column, name in COLUMNS.items() if column in present}
        if "gcs" in present:
            self._columns.pop("tgcs", None)
        self.variables = tuple(dict.fromkeys(self._columns.values()))

    def fingerprint(self) -> str:
        """sha256 over the three files' own."""
        return digest({name: file_digest(self._cohort.file(name)) for name in _yaib.FILES})

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order."""
        ids = self._cohort.stays()
        left_out = self._unused()
        for some in ids.to_frame().iter_slices(STAYS_A_BATCH):
            low, high = int(some["stay_id"][0]), int(some["stay_id"][-1])
            yield self._batch(low, high, some.height, left_out)
            left_out = {}

    def _batch(self, low: int, high: int, offered: int, left_out: dict[str, int]) -> StayBatch:
        read = self._cohort.read
        more = [column for column in ("subject_id",) if column in self._cohort.schemas["sta"]]
        sta = read("sta", "age", "sex", "height", "weight", *more, low=low, high=high)
        outc = read("outc", "hour", "label", low=low, high=high).with_columns(
            pl.col("label").cast(pl.Float64)
        )
        dyn = read("dyn", "hour", *self._columns, low=low, high=high)
        spoilt = _yaib.broken(sta, dyn, outc)
        sta, dyn, outc = (
            f.join(spoilt, on="stay_id", how="anti", maintain_order="left")
            for f in (sta, dyn, outc)
        )
        return StayBatch(
            stays=_stays(sta, outc),
            events=_events(dyn, self._columns),
            episodes=_episodes(outc, self.options),
            defects=spoilt.select(list(DEFECTS)),
            attrition={"in the cohort's files": offered, "readable": offered - spoilt.height},
            exclusions=left_out,
        )

    def _unused(self) -> dict[str, int]:
        """Values in columns that are no variable of the catalogue."""
        used = {"dyn": _KEYS | self._columns.keys(), "outc": _KEYS | {"label"}}
        used["sta"] = {"stay_id", "age", "sex", "height", "weight", "subject_id"}
        unknown = {
            name: [column for column in schema if column not in used[name]]
            for name, schema in self._cohort.schemas.items()
        }
        counts = {
            name: self._cohort.read(name, *columns) for name, columns in unknown.items() if columns
        }
        return {
            f"{name}.parquet: the column {column!r} is no variable that is known": int(
                frame[column].count()
            )
            for name, frame in counts.items()
            for column in unknown[name]
        }


def _after(hours: pl.Expr) -> pl.Expr:
    """The moment that many hours after admission."""
    return pl.lit(EPOCH) + pl.duration(microseconds=(hours * 3.6e9).round().cast(pl.Int64))


def _stays(sta: pl.DataFrame, outc: pl.DataFrame) -> pl.DataFrame:
    hours = outc.group_by("stay_id").agg(first=pl.col("hour").min(), last=pl.col("hour").max())
    people = sta.join(hours, on="stay_id", how="inner", maintain_order="left")
    sex = pl.col("sex").cast(pl.String)
    stays = people.select(
        "stay_id",
        subject_id="subject_id" if "subject_id" in sta.columns else "stay_id",
        site=pl.lit(None),
        hospital_admitted_at=pl.lit(None),
        admitted_at=pl.lit(EPOCH),
        observed_from=pl.when(pl.col("first") > 0).then(_after(pl.col("first"))),
        discharged_at=_after(pl.col("last") + 1),
        age="age",
        sex=sex.str.to_lowercase().replace_strict(SEXES, default=sex),
        height_cm="height",
        weight_kg="weight",
        unit=pl.lit(None),
        admission_type=pl.lit(None),
    )
    missing = pl.col("age", "height_cm", "weight_kg").cast(pl.Float64).fill_nan(None)
    return stays.with_columns(missing).cast(pl.Schema(STAYS))


def _events(dyn: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    told = dyn.select(
        "stay_id", pl.col(list(columns)).cast(pl.Float64), time=_after(pl.col("hour") + 1)
    )
    long = told.rename(columns).unpivot(index=["stay_id", "time"], variable_name="variable")
    long = long.with_columns(pl.col("value").fill_nan(None), known_at="time").drop_nulls("value")
    return long.select(list(EVENTS)).cast(pl.Schema(EVENTS))


def _episodes(outc: pl.DataFrame, options: YaibOptions) -> pl.DataFrame:
    first = (
        outc.filter(pl.col("label") == 1)
        .group_by("stay_id")
        .agg(pl.col("hour").min())
        .sort("stay_id")
    )
    onset = pl.col("hour") + 1 + options.label_lead_hours
    episodes = first.select(
        "stay_id",
        onset=_after(onset),
        end=pl.lit(None),
        known_at=_after(onset + options.label_known_after_hours),
    )
    return episodes.cast(pl.Schema(EPISODES))
