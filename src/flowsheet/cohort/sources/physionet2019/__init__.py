"""The PhysioNet/Computing in Cardiology Challenge 2019: hourly records with a sepsis label.

Reyna et al., Critical Care Medicine 48(2):210-217, 2020, doi:10.1097/CCM.0000000000004145; data
doi:10.13026/v64v-d857. A folder (however nested) or a zip of files ``p<number>.psv``, one a
patient.

**Time.** The files tell hours in intensive care (``ICULOS``), not dates: admission is ``EPOCH``.
The row ICULOS = h covers ((h - 1), h] hours and is known at its end. A record that begins with
ICULOS = f > 1 is observed from (f - 1) hours.

**Sepsis.** ``SepsisLabel`` turns 1 six hours before onset, so onset is six hours after the first
hour labelled 1, which is also how the challenge's scorer reads it; for a record labelled from its
first row this is the latest onset that the label allows. Onset is the earlier of suspicion and SOFA
rise, the rise at most 24 h before suspicion; suspicion is the earlier of culture and antibiotic,
the antibiotic at most 72 h after the culture and given for 72 h in a row. Only then is the
definition met for certain: up to 24 + 72 + 72 h after the onset that it dates back.

**Units.** ``FiO2`` is a fraction here and percent in the catalogue. A value above 1 is taken as
percent already (set A holds a 7 and a 10): no fraction is above 1, and no percentage up to 1 can be
breathed. Lactate and magnesium have the catalogue's units, whatever the challenge's table of
variables says: their medians are 1.8 and 2.0.

**Defects.** What spoils a file's structure sets the whole patient aside, with file, row and rule: a
column missing or extra (another order is read by name), a row with too few or too many fields,
bytes that are not UTF-8, no rows, an hour that is no whole number, comes twice, runs backwards or
is left out, a label other than 0 or 1 or that returns to 0, age or another fixed column that
changes, two files for one patient. A text in place of a measurement sets that measurement aside;
impossible values are the contract's business. CRLF, a byte order mark, a missing last newline,
empty fields and ``nan`` are read as meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, ClassVar

import polars as pl
from pydantic import Field

from flowsheet.cohort.schema import EPISODES, EPOCH, EVENTS, STAYS
from flowsheet.cohort.sources.base import DEFECTS, SOURCES, Source, StayBatch
from flowsheet.cohort.sources.physionet2019 import psv as _psv
from flowsheet.config import FrozenModel
from flowsheet.state.hashing import file_digest

MEASUREMENTS = {
    "HR": "hr",
    "O2Sat": "o2sat",
    "Temp": "temp",
    "SBP": "sbp",
    "MAP": "map",
    "DBP": "dbp",
    "Resp": "resp",
    "EtCO2": "etco2",
    "BaseExcess": "be",
    "HCO3": "bicar",
    "FiO2": "fio2",
    "pH": "ph",
    "PaCO2": "pco2",
    "SaO2": "sao2",
    "AST": "ast",
    "BUN": "bun",
    "Alkalinephos": "alp",
    "Calcium": "ca",
    "Chloride": "cl",
    "Creatinine": "crea",
    "Bilirubin_direct": "bili_dir",
    "Glucose": "glu",
    "Lactate": "lact",
    "Magnesium": "mg",
    "Phosphate": "phos",
    "Potassium": "k",
    "Bilirubin_total": "bili",
    "TroponinI": "tri",
    "Hct": "hct",
    "Hgb": "hgb",
    "PTT": "ptt",
    "WBC": "wbc",
    "Fibrinogen": "fgn",
    "Platelets": "plt",
}
FIXED = ["Age", "Gender", "Unit1", "Unit2", "HospAdmTime"]
COLUMNS = [*MEASUREMENTS, *FIXED, "ICULOS", "SepsisLabel"]
LABEL_LEAD_HOURS = 6.0
SET_SIZE = 100_000
"""Set A's patients are numbered below it, set B's from it to its double."""
BATCH = 2_000
MOST_HOURS = 1e5
"""Eleven years: beyond, an hour is a slip of the pen."""


class PhysioNet2019Options(FrozenModel):
    """How the records are read."""

    label_known_after_hours: Annotated[float, Field(ge=0, le=10_000)] = 168.0
    """Hours after onset until the label counts as known (see the module's notes)."""


@SOURCES.register("physionet2019")
class PhysioNet2019(Source):
    """Patients' psv files, a batch of them at a time."""

    Options: ClassVar[type[FrozenModel]] = PhysioNet2019Options
    version: ClassVar[int] = 1
    licence: str = "CC BY 4.0 (PhysioNet, challenge-2019 1.0.0, doi:10.13026/v64v-d857)"
    variables: tuple[str, ...] = tuple(MEASUREMENTS.values())
    rules: ClassVar[tuple[str, ...]] = (
        "unreadable_file",
        "file_name",
        "one_file_a_patient",
        "no_rows",
        "columns",
        "fields",
        "encoding",
        "number",
        "hour_number",
        "duplicate_hour",
        "hour_backwards",
        "missing_hour",
        "label",
        "label_returns",
        "fixed_value",
        "flag",
    )

    def fingerprint(self) -> str:
        """sha256 of the zip, or of all names and contents in the folder."""
        assert self.path is not None
        with _psv.opened(self.path) as records:
            if self.path.is_file():
                return file_digest(self.path)
            found = hashlib.sha256()
            for name in records.names:
                found.update(f"{name}\0{hashlib.sha256(records.read(name)).hexdigest()}\n".encode())
            return found.hexdigest()

    def batches(self) -> Iterator[StayBatch]:
        """Batches of patients in ascending order of their numbers."""
        assert self.path is not None
        with _psv.opened(self.path) as records:
            patients = list(records.by_patient().items())
            for start in range(0, len(patients), BATCH):
                part = patients[start : start + BATCH]
                misplaced = [line for number, names in part for line in _misplaced(number, names)]
                files = [(n, names[0]) for n, names in part if n is not None and len(names) == 1]
                parsed = _psv.parse(files, records.read, COLUMNS)
                yield self._batch(parsed, misplaced)

    def _batch(self, parsed: _psv.Parsed, misplaced: list[dict[str, object]]) -> StayBatch:
        in_cell = pl.col("column").is_in(list(MEASUREMENTS)) & (pl.col("rule") == "number")
        whole = pl.concat(
            [
                pl.DataFrame(misplaced, schema=_psv.SPOILT),
                parsed.spoilt.filter(~in_cell),
                _broken_rows(parsed.rows),
            ]
        )
        whole = whole.sort("file", "row", nulls_last=False, maintain_order=True).unique(
            "file", maintain_order=True
        )
        rows = parsed.rows.join(whole, on="file", how="anti", maintain_order="left")
        cells = parsed.spoilt.filter(in_cell).join(
            whole, on="file", how="anti", maintain_order="left"
        )
        defects = pl.concat([_defects("stays", whole), _defects("events", cells)])
        return StayBatch(
            stays=_stays(rows),
            events=_events(rows),
            episodes=_episodes(rows, self.options.label_known_after_hours),
            defects=defects,
            attrition={
                "patients' files": rows["file"].n_unique() + whole.height,
                "usable files": rows["file"].n_unique(),
            },
        )


def _misplaced(number: int | None, names: list[str]) -> list[dict[str, object]]:
    """Files that belong to no patient, or several that claim one."""
    if number is not None and len(names) == 1:
        return []
    rule = "file_name" if number is None else "one_file_a_patient"
    value = "not p<number>.psv" if number is None else f"{len(names)} files"
    return [{"patient": number, "file": name, "rule": rule, "value": value} for name in names]


def _rules() -> list[tuple[str, str, pl.Expr]]:
    """(rule, column, where it is broken), the plainest first."""
    hour, label, again = (
        pl.col("ICULOS"),
        pl.col("SepsisLabel"),
        pl.col("patient") == pl.col("patient").shift(1),
    )
    step, turn = hour - hour.shift(1), label - label.shift(1)
    whole = hour.is_finite() & (hour >= 1) & (hour <= MOST_HOURS) & (hour == hour.floor())
    changed = [("fixed_value", c, again & pl.col(c).ne_missing(pl.col(c).shift(1))) for c in FIXED]
    flags = [("flag", c, ~pl.col(c).is_in([0.0, 1.0])) for c in ("Gender", "Unit1", "Unit2")]
    return [
        ("hour_number", "ICULOS", ~whole.fill_null(value=False)),
        ("duplicate_hour", "ICULOS", again & (step == 0)),
        ("hour_backwards", "ICULOS", again & (step < 0)),
        ("missing_hour", "ICULOS", again & (step > 1)),
        ("label", "SepsisLabel", ~label.is_in([0.0, 1.0]).fill_null(value=False)),
        ("label_returns", "SepsisLabel", again & (turn < 0)),
        *changed,
        *flags,
        ("number", "Age", ~pl.col("Age").is_finite()),
        ("number", "HospAdmTime", ~(pl.col("HospAdmTime").abs() <= MOST_HOURS)),
    ]


def _broken_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """One line for each row that breaks a rule of the file's structure."""
    rules = _rules()
    broken = rows.select(
        broken.fill_null(value=False).alias(str(i)) for i, (_, _, broken) in enumerate(rules)
    )
    lines = [
        rows.filter(broken[str(i)]).select(
            "patient",
            "file",
            "row",
            column=pl.lit(column),
            rule=pl.lit(rule),
            value=pl.col(column).cast(pl.String).fill_null("NaN"),
        )
        for i, (rule, column, _) in enumerate(rules)
        if broken[str(i)].any()
    ]
    return pl.concat([pl.DataFrame(schema=_psv.SPOILT), *lines])


def _defects(table: str, lines: pl.DataFrame) -> pl.DataFrame:
    where = pl.format("{} row {} (line {})", "file", "row", pl.col("row") + 1)
    key = pl.coalesce(where, "file")
    return lines.with_columns(table=pl.lit(table), key=key).select(list(DEFECTS))


def _hours(hours: pl.Expr) -> pl.Expr:
    """The moment that many hours after admission."""
    return pl.lit(EPOCH) + pl.duration(microseconds=(hours * 3.6e9).round().cast(pl.Int64))


def _stays(rows: pl.DataFrame) -> pl.DataFrame:
    patient = rows.group_by("patient", maintain_order=True).agg(
        pl.col(FIXED).first(), first=pl.col("ICULOS").first(), last=pl.col("ICULOS").last()
    )
    medical, surgical = pl.col("Unit1").eq_missing(1.0), pl.col("Unit2").eq_missing(1.0)
    sets = (
        pl.when(pl.col("patient") < SET_SIZE)
        .then(pl.lit("A"))
        .when(pl.col("patient") < 2 * SET_SIZE)
        .then(pl.lit("B"))
    )
    stays = patient.select(
        stay_id="patient",
        subject_id="patient",
        site=sets.otherwise(pl.lit("unknown")),
        hospital_admitted_at=_hours(pl.col("HospAdmTime")),
        admitted_at=pl.lit(EPOCH),
        observed_from=pl.when(pl.col("first") > 1).then(_hours(pl.col("first") - 1)),
        discharged_at=_hours(pl.col("last")),
        age="Age",
        sex=pl.when(pl.col("Gender") == 1)
        .then(pl.lit("M"))
        .when(pl.col("Gender") == 0)
        .then(pl.lit("F")),
        height_cm=pl.lit(None),
        weight_kg=pl.lit(None),
        unit=pl.when(medical & ~surgical)
        .then(pl.lit("MICU"))
        .when(surgical & ~medical)
        .then(pl.lit("SICU")),
        admission_type=pl.lit(None),
    )
    return stays.cast(pl.Schema(STAYS))


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    percent = pl.when(pl.col("FiO2") <= 1).then((pl.col("FiO2") * 100).round(6)).otherwise("FiO2")
    time = _hours(pl.col("ICULOS"))
    wide = rows.select(
        pl.col("patient").alias("stay_id"), time.alias("time"), *MEASUREMENTS
    ).with_columns(FiO2=percent)
    wide = wide.rename(MEASUREMENTS)
    long = wide.unpivot(index=["stay_id", "time"], variable_name="variable").drop_nulls("value")
    return long.with_columns(known_at="time").select(list(EVENTS)).cast(pl.Schema(EVENTS))


def _episodes(rows: pl.DataFrame, known_after_hours: float) -> pl.DataFrame:
    first = (
        rows.filter(pl.col("SepsisLabel") == 1)
        .group_by("patient", maintain_order=True)
        .agg(pl.col("ICULOS").first())
    )
    onset = pl.col("ICULOS") + LABEL_LEAD_HOURS
    episodes = first.select(
        stay_id="patient",
        onset=_hours(onset),
        end=pl.lit(None),
        known_at=_hours(onset + known_after_hours),
    )
    return episodes.cast(pl.Schema(EPISODES))
