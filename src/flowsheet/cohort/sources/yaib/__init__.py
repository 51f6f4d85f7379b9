"""Cohorts of YAIB-cohorts: hourly tables with a label, from MIMIC, eICU, HiRID or AUMCdb.

van de Water et al., Yet Another ICU Benchmark, ICLR 2024, arXiv:2306.05109; the files are written
by https://github.com/rvandewater/YAIB-cohorts. A folder contains ``dyn.parquet`` (a row for each
hour, a column for each measurement), ``outc.parquet`` (a label for each hour) and ``sta.parquet``
(a row for each stay: age, sex, height, weight).

**Time.** Hour h covers [h, h + 1) after admission (ricu rounds times down), and a value is the
median of the hour, or its sum for urine: it is true and known at the end of the hour, h + 1.
Admission is ``EPOCH``. The last hour is that of discharge, of the end of the seventh day, or of six
hours after onset, the earliest of them: the record ends there.

**Label.** ``R/sepsis.R`` with its ``outcome_window(c(6, 6))`` labels the hours from six before the
onset to six after it, so the hour of onset is six after the first hour labelled true. YAIB labels
the first onset only, and the record ends six hours later: an episode has no end. A stay whose label
becomes false again was not written by that code, and is quarantined.

**One label a stay.** Without a column ``time``, as in YAIB's cohorts of mortality, the label says
what happens at some time after the record: the onset is an hour after its end. ``response`` must
name it, such as death; the task is one question a stay, such as mortality_24h.

**Known.** The onset is the hour of a SOFA increase, from 48 h before suspicion to 24 h after it;
suspicion is the earlier of culture and antibiotic, the antibiotic at most 72 h after the culture
(``ricu::susp_inf``) and given for the following 72 h (``abx_cont``). The definition is certainly
fulfilled only up to 48 + 72 + 72 h after the onset, which is then dated back. As the record ends
six hours after onset, no model can get its label in time.

**Subjects.** The files identify stays, not patients. A column ``subject_id`` in ``sta.parquet`` is
used if it was added; without one each stay counts as a separate subject, and readmissions of a
patient may end up in different parts of a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import Field

from flowsheet.cohort.completeness import HOURLY_NEEDS, Needs
from flowsheet.cohort.schema import EPOCH, EVENTS, to_contract
from flowsheet.cohort.sources.base import DEFECTS, SOURCES, Source, StayBatch
from flowsheet.cohort.sources.yaib.files import FILES, CohortFiles, find_defects
from flowsheet.config import FrozenModel, Name
from flowsheet.errors import CheckFailed
from flowsheet.state.hashing import digest, file_digest

YAIB_CONCEPTS = (
    "alb alp alt ast be bicar bili bili_dir bnd bun ca cai ck ckmb cl crea crp dbp fgn fio2 glu "
    "hgb hr inr_pt k lact lymph map mch mchc mcv methb mg na neut o2sat pco2 ph phos plt po2 ptt "
    "resp sbp temp tnt urine wbc"
)
"""The 48 concepts of ricu that YAIB's cohorts contain; name and unit are the catalogue's."""

OTHER_CONCEPTS = "basos egcs eos etco2 gcs hct mgcs pt rass rbc rdw sao2 tri vgcs"
"""Other concepts of ricu with the catalogue's name and unit, which may be added."""

COLUMNS = {name: name for name in f"{YAIB_CONCEPTS} {OTHER_CONCEPTS}".split()} | {"tgcs": "gcs"}
"""Columns of ``dyn`` and their variables."""

SEXES = {"female": "F", "f": "F", "male": "M", "m": "M"}
STAYS_PER_BATCH = 4_000
_STATIC_COLUMNS = ("age", "sex", "height", "weight")
_KEYS = {"stay_id", "time"}


class YaibOptions(FrozenModel):
    """How the label is interpreted."""

    response: Name | None = None
    """What is labelled: sepsis, death, aki, ...; null: sepsis, where labels are hourly."""

    label_lead_hours: Annotated[int, Field(ge=0, le=168)] = 6
    """Hours before onset from which the label is true."""
    label_known_after_hours: Annotated[float, Field(ge=0, le=10_000)] = 192.0
    """Hours after onset until the label is known (see the module's docstring)."""


@SOURCES.register("yaib")
class Yaib(Source):
    """A YAIB cohort, read in batches of some thousand stays."""

    Options: ClassVar[type[FrozenModel]] = YaibOptions
    licence: str = "as stated by the owner of the database"
    stay_columns: ClassVar[tuple[str, ...]] = ("age", "sex", "height_cm", "weight_kg")
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
        self._files = CohortFiles.open(path, set(COLUMNS))
        self._unknown_columns: dict[str, int] = {}
        present = set(self._files.columns("dyn"))
        self._columns = {column: name for column, name in COLUMNS.items() if column in present}
        if "gcs" in present:
            self._columns.pop("tgcs", None)
        self.variables = tuple(dict.fromkeys(self._columns.values()))
        self._response = self._name_response()
        self.responses = (self._response,)

    def _name_response(self) -> str:
        named: str | None = self.options.response
        if named is None and not self._files.has_hourly_labels:
            raise CheckFailed(
                "the table outc has one label a stay, and does not say of what",
                where=str(self._files.paths("outc")[0]),
                todo="name it, such as cohort.options.response=death",
            )
        return named or "sepsis"

    def needs(self) -> Needs:
        """The vital signs, of which every such record has some."""
        return HOURLY_NEEDS

    def warnings(self) -> list[str]:
        """Columns of every YAIB cohort that are absent, and columns that are not read."""
        absent = [name for name in YAIB_CONCEPTS.split() if name not in self._columns]
        warnings = [f"the table dyn has no column {', '.join(absent)}"] if absent else []
        return [*warnings, *self._unknown_columns]

    def fingerprint(self) -> str:
        """sha256 of the sha256 of the files."""
        paths = {name: self._files.paths(name) for name in FILES}
        return digest({name: [file_digest(path) for path in paths[name]] for name in FILES})

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order."""
        stay_ids = self._files.read_stay_ids().to_frame()
        exclusions = self._unknown_columns = self._count_unknown_columns()
        for stays in stay_ids.iter_slices(STAYS_PER_BATCH):
            yield self._make_batch(stays["stay_id"], exclusions)
            exclusions = {}

    def _make_batch(self, stay_ids: pl.Series, exclusions: dict[str, int]) -> StayBatch:
        first = int(stay_ids[0])
        last = int(stay_ids[-1])
        optional = [c for c in ("subject_id",) if c in self._files.columns("sta")]
        read = self._files.read
        sta = read("sta", *_STATIC_COLUMNS, *optional, first=first, last=last)
        dyn = read("dyn", "hour", *self._columns, first=first, last=last)
        if self._files.has_hourly_labels:
            outc = read("outc", "hour", "label", first=first, last=last)
        else:
            labels = read("outc", "label", first=first, last=last)
            outc = labels.join(dyn.select("stay_id", "hour"), on="stay_id", how="left")
            outc = outc.sort("stay_id", "hour")
        defects = find_defects(sta, dyn, outc)
        sta, dyn, outc = (
            frame.join(defects, on="stay_id", how="anti", maintain_order="left")
            for frame in (sta, dyn, outc)
        )
        offered = len(stay_ids)
        return StayBatch(
            stays=_make_stays(sta, outc),
            events=_make_events(dyn, self._columns),
            episodes=self._make_episodes(outc),
            defects=defects.select(list(DEFECTS)),
            attrition={"in the cohort's files": offered, "readable": offered - defects.height},
            exclusions=exclusions,
        )

    def _make_episodes(self, outc: pl.DataFrame) -> pl.DataFrame:
        """The episode of each stay with a true label."""
        options: YaibOptions = self.options
        labelled = outc.filter(pl.col("label") == 1).group_by("stay_id")
        onset = pl.col("hour").min() + 1 + options.label_lead_hours
        if not self._files.has_hourly_labels:
            onset = pl.col("hour").max() + 2
        found = labelled.agg(onset=onset).sort("stay_id")
        episodes = found.select(
            "stay_id",
            response=pl.lit(self._response),
            onset=_after_admission(pl.col("onset")),
            end=pl.lit(None),
            known_at=_after_admission(pl.col("onset") + options.label_known_after_hours),
        )
        return to_contract("episodes", episodes)

    def _count_unknown_columns(self) -> dict[str, int]:
        """The number of values in each column that is not a variable of the catalogue."""
        known = {
            "sta": {"stay_id", *_STATIC_COLUMNS, "subject_id"},
            "dyn": _KEYS | self._columns.keys(),
            "outc": _KEYS | {"label"},
        }
        counts: dict[str, int] = {}
        for name in FILES:
            for column in self._files.columns(name):
                if column not in known[name]:
                    reason = f"{name}.parquet: the column {column!r} is not a known variable"
                    counts[reason] = self._files.count_values(name, column)
        return counts


def _after_admission(hours: pl.Expr) -> pl.Expr:
    """The time that many hours after admission."""
    return pl.lit(EPOCH) + pl.duration(microseconds=(hours * 3.6e9).round().cast(pl.Int64))


def _make_stays(sta: pl.DataFrame, outc: pl.DataFrame) -> pl.DataFrame:
    hours = outc.group_by("stay_id").agg(first=pl.col("hour").min(), last=pl.col("hour").max())
    rows = sta.join(hours, on="stay_id", how="inner", maintain_order="left")
    sex = pl.col("sex")
    stays = rows.select(
        "stay_id",
        subject_id="subject_id" if "subject_id" in sta.columns else "stay_id",
        admitted_at=pl.lit(EPOCH),
        observed_from=pl.when(pl.col("first") > 0).then(_after_admission(pl.col("first"))),
        discharged_at=_after_admission(pl.col("last") + 1),
        age="age",
        sex=sex.str.to_lowercase().replace_strict(SEXES, default=sex),
        height_cm="height",
        weight_kg="weight",
    )
    numbers = pl.col("age", "height_cm", "weight_kg").fill_nan(None)
    return to_contract("stays", stays.with_columns(numbers))


def _make_events(dyn: pl.DataFrame, columns: dict[str, str]) -> pl.DataFrame:
    time = _after_admission(pl.col("hour") + 1)
    wide = dyn.select("stay_id", pl.col(list(columns)), time=time).rename(columns)
    long = wide.unpivot(index=["stay_id", "time"], variable_name="variable")
    events = long.with_columns(pl.col("value").fill_nan(None), known_at="time")
    return events.drop_nulls("value").select(list(EVENTS)).cast(pl.Schema(EVENTS))
