"""The PhysioNet/Computing in Cardiology Challenge 2019: hourly records with a sepsis label.

Reyna et al., Critical Care Medicine 48(2):210-217, 2020, doi:10.1097/CCM.0000000000004145; data
doi:10.13026/v64v-d857. The input is a folder, with any subfolders, or a zip of files
``p<number>.psv`` (or ``.psv.gz``), one for each patient.

**Time.** The files contain hours in intensive care (``ICULOS``), not dates: admission is ``EPOCH``.
The row ICULOS = h covers the hour (h - 1, h] and is known at its end. A record that starts with
ICULOS = f > 1 is observed from hour f - 1 on.

**Sepsis.** ``SepsisLabel`` becomes 1 six hours before onset, so the onset is six hours after the
first hour labelled 1, which is also the interpretation of the challenge's scorer. For a record
labelled from its first row on, this is the latest possible onset. The onset is the earlier of
suspicion and SOFA increase, with the increase at most 24 h before suspicion; suspicion is the
earlier of culture and antibiotic, the antibiotic at most 72 h after the culture and given for 72 h
in a row. The definition is certainly fulfilled only up to 24 + 72 + 72 h after the onset, which is
then dated back.

**Units.** ``FiO2`` is a fraction here and percent in the catalogue. A value above 1 is taken as
percent already (set A has a 7 and a 10): no fraction is above 1, and 1% oxygen cannot be breathed.
Lactate and magnesium have the catalogue's units, contrary to the challenge's table of variables:
their medians are 1.8 and 2.0.

**Defects.** A defect of a file's structure quarantines the patient, with file, row and rule: a
column that is missing or extra (another order is accepted), a row with too few or too many fields,
bytes that are not UTF-8, no rows, an hour that is not a whole number, is repeated, decreases or is
missing, a label other than 0 or 1 or one that returns to 0, age or another fixed column that
changes, two files for one patient. A text in place of a measurement quarantines that measurement
only; implausible values are left to the contract. CRLF, a byte order mark, a missing last newline,
empty fields and ``nan`` are accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, ClassVar

import polars as pl
from pydantic import Field

from flowsheet.cohort.completeness import HOURLY_NEEDS, Needs
from flowsheet.cohort.schema import EPOCH, EVENTS, to_contract
from flowsheet.cohort.sources.base import DEFECTS, SOURCES, Source, StayBatch
from flowsheet.cohort.sources.physionet2019.psv import (
    FILE_DEFECTS,
    ParsedFiles,
    open_files,
    parse_files,
)
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
"""Patients of set A have smaller numbers, those of set B numbers up to twice as large."""
PATIENTS_PER_BATCH = 2_000
MAX_HOURS = 1e5
"""Eleven years; a larger number of hours is a mistake."""


class PhysioNet2019Options(FrozenModel):
    """How the records are read."""

    label_known_after_hours: Annotated[float, Field(ge=0, le=10_000)] = 168.0
    """Hours after onset until the label is known (see the module's docstring)."""
    max_file_mb: Annotated[float, Field(gt=0, le=1_000)] = 16.0
    """A patient's file that is larger, in megabytes, is set aside without being read."""


@SOURCES.register("physionet2019")
class PhysioNet2019(Source):
    """The psv files of the patients, read in batches."""

    Options: ClassVar[type[FrozenModel]] = PhysioNet2019Options
    version: ClassVar[int] = 1
    licence: str = "CC BY 4.0 (PhysioNet, challenge-2019 1.0.0, doi:10.13026/v64v-d857)"
    variables: tuple[str, ...] = tuple(MEASUREMENTS.values())
    responses: tuple[str, ...] = ("sepsis",)
    stay_columns: ClassVar[tuple[str, ...]] = ("age", "sex", "hospital_admitted_at", "unit")
    rules: ClassVar[tuple[str, ...]] = (
        "unreadable_file",
        "file_size",
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

    def needs(self) -> Needs:
        """The vital signs, of which every such record has some."""
        return HOURLY_NEEDS

    def warnings(self) -> list[str]:
        """Files that seem to be of patients, but are no psv files."""
        assert self.path is not None
        with open_files(self.path, self._max_bytes) as files:
            names = files.unread
        if not names:
            return []
        return [f"{len(names):,} files are no psv files and are not read, such as {names[0]}"]

    def fingerprint(self) -> str:
        """sha256 of the zip, or of all names and contents in the folder."""
        assert self.path is not None
        with open_files(self.path, self._max_bytes) as files:
            if self.path.is_file():
                return file_digest(self.path)
            total = hashlib.sha256()
            for name in files.names:
                content = file_digest(self.path / name)
                total.update(f"{name}\0{content}\n".encode())
            return total.hexdigest()

    @property
    def _max_bytes(self) -> int:
        options: PhysioNet2019Options = self.options
        return round(options.max_file_mb * 1_000_000)

    def batches(self) -> Iterator[StayBatch]:
        """Batches of patients in ascending order of their numbers."""
        assert self.path is not None
        with open_files(self.path, self._max_bytes) as files:
            patients = list(files.by_patient().items())
            for start in range(0, len(patients), PATIENTS_PER_BATCH):
                unassigned: list[dict[str, object]] = []
                to_parse: list[tuple[int, str]] = []
                for number, names in patients[start : start + PATIENTS_PER_BATCH]:
                    if number is not None and len(names) == 1:
                        to_parse.append((number, names[0]))
                    else:
                        unassigned += _make_name_defects(number, names)
                parsed = parse_files(to_parse, files.read, COLUMNS)
                yield self._make_batch(parsed, pl.DataFrame(unassigned, schema=FILE_DEFECTS))

    def _make_batch(self, parsed: ParsedFiles, unassigned: pl.DataFrame) -> StayBatch:
        is_measurement = pl.col("column").is_in(list(MEASUREMENTS)) & (pl.col("rule") == "number")
        unusable = pl.concat(
            [unassigned, parsed.defects.filter(~is_measurement), _find_broken_rows(parsed.rows)]
        )
        unusable = unusable.sort("file", "row", nulls_last=False, maintain_order=True)
        unusable = unusable.unique("file", maintain_order=True)
        rows = parsed.rows.join(unusable, on="file", how="anti", maintain_order="left")
        measurements = parsed.defects.filter(is_measurement)
        measurements = measurements.join(unusable, on="file", how="anti", maintain_order="left")
        usable_files = rows["file"].n_unique()
        return StayBatch(
            stays=_make_stays(rows),
            events=_make_events(rows),
            episodes=_make_episodes(rows, self.options.label_known_after_hours),
            defects=pl.concat(
                [_make_defects("stays", unusable), _make_defects("events", measurements)]
            ),
            attrition={
                "patients' files": usable_files + unusable.height,
                "usable files": usable_files,
            },
        )


def _make_name_defects(number: int | None, names: list[str]) -> list[dict[str, object]]:
    """Files without a patient's number, or several files of one patient."""
    rule = "file_name" if number is None else "one_file_a_patient"
    value = "not p<number>.psv" if number is None else f"{len(names)} files"
    return [{"patient": number, "file": name, "rule": rule, "value": value} for name in names]


def _row_rules() -> list[tuple[str, str, pl.Expr]]:
    """(rule, column, where it is broken); the first broken rule of a row is reported."""
    hour = pl.col("ICULOS")
    label = pl.col("SepsisLabel")
    same_patient = pl.col("patient") == pl.col("patient").shift(1)
    hour_step = hour - hour.shift(1)
    label_step = label - label.shift(1)
    is_hour = hour.is_finite() & (hour >= 1) & (hour <= MAX_HOURS) & (hour == hour.floor())
    changes = [
        ("fixed_value", name, same_patient & pl.col(name).ne_missing(pl.col(name).shift(1)))
        for name in FIXED
    ]
    flags = [
        ("flag", name, ~pl.col(name).is_in([0.0, 1.0])) for name in ("Gender", "Unit1", "Unit2")
    ]
    return [
        ("hour_number", "ICULOS", ~is_hour.fill_null(value=False)),
        ("duplicate_hour", "ICULOS", same_patient & (hour_step == 0)),
        ("hour_backwards", "ICULOS", same_patient & (hour_step < 0)),
        ("missing_hour", "ICULOS", same_patient & (hour_step > 1)),
        ("label", "SepsisLabel", ~label.is_in([0.0, 1.0]).fill_null(value=False)),
        ("label_returns", "SepsisLabel", same_patient & (label_step < 0)),
        *changes,
        *flags,
        ("number", "Age", ~pl.col("Age").is_finite()),
        ("number", "HospAdmTime", ~(pl.col("HospAdmTime").abs() <= MAX_HOURS)),
    ]


def _find_broken_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """One defect for each row and rule of the file's structure that it breaks."""
    rules = _row_rules()
    is_broken = rows.select(
        broken.fill_null(value=False).alias(str(i)) for i, (_, _, broken) in enumerate(rules)
    )
    defects = [pl.DataFrame(schema=FILE_DEFECTS)]
    for i, (rule, column, _) in enumerate(rules):
        broken_rows = rows.filter(is_broken[str(i)])
        if broken_rows.height:
            value = pl.col(column).cast(pl.String).fill_null("NaN")
            defects.append(
                broken_rows.select(
                    "patient",
                    "file",
                    "row",
                    column=pl.lit(column),
                    rule=pl.lit(rule),
                    value=value,
                )
            )
    return pl.concat(defects)


def _make_defects(table: str, file_defects: pl.DataFrame) -> pl.DataFrame:
    row = pl.format("{} row {} (line {})", "file", "row", pl.col("row") + 1)
    key = pl.coalesce(row, "file")
    return file_defects.with_columns(table=pl.lit(table), key=key).select(list(DEFECTS))


def _after_admission(hours: pl.Expr) -> pl.Expr:
    """The time that many hours after admission."""
    return pl.lit(EPOCH) + pl.duration(microseconds=(hours * 3.6e9).round().cast(pl.Int64))


def _make_stays(rows: pl.DataFrame) -> pl.DataFrame:
    patients = rows.group_by("patient", maintain_order=True).agg(
        pl.col(FIXED).first(), first=pl.col("ICULOS").first(), last=pl.col("ICULOS").last()
    )
    is_medical = pl.col("Unit1").eq_missing(1.0)
    is_surgical = pl.col("Unit2").eq_missing(1.0)
    site = (
        pl.when(pl.col("patient") < SET_SIZE)
        .then(pl.lit("A"))
        .when(pl.col("patient") < 2 * SET_SIZE)
        .then(pl.lit("B"))
        .otherwise(pl.lit("unknown"))
    )
    sex = (
        pl.when(pl.col("Gender") == 1)
        .then(pl.lit("M"))
        .when(pl.col("Gender") == 0)
        .then(pl.lit("F"))
    )
    unit = (
        pl.when(is_medical & ~is_surgical)
        .then(pl.lit("MICU"))
        .when(is_surgical & ~is_medical)
        .then(pl.lit("SICU"))
    )
    stays = patients.select(
        stay_id="patient",
        subject_id="patient",
        site=site,
        hospital_admitted_at=_after_admission(pl.col("HospAdmTime")),
        admitted_at=pl.lit(EPOCH),
        observed_from=pl.when(pl.col("first") > 1).then(_after_admission(pl.col("first") - 1)),
        discharged_at=_after_admission(pl.col("last")),
        age="Age",
        sex=sex,
        unit=unit,
    )
    return to_contract("stays", stays)


def _make_events(rows: pl.DataFrame) -> pl.DataFrame:
    fio2 = pl.col("FiO2")
    percent = pl.when(fio2 <= 1).then((fio2 * 100).round(6)).otherwise(fio2)
    time = _after_admission(pl.col("ICULOS"))
    wide = rows.select("patient", *MEASUREMENTS, time=time).with_columns(FiO2=percent)
    wide = wide.rename({"patient": "stay_id", **MEASUREMENTS})
    events = wide.unpivot(index=["stay_id", "time"], variable_name="variable").drop_nulls("value")
    return events.with_columns(known_at="time").select(list(EVENTS)).cast(pl.Schema(EVENTS))


def _make_episodes(rows: pl.DataFrame, known_after_hours: float) -> pl.DataFrame:
    septic = rows.filter(pl.col("SepsisLabel") == 1)
    first = septic.group_by("patient", maintain_order=True).agg(pl.col("ICULOS").first())
    onset = pl.col("ICULOS") + LABEL_LEAD_HOURS
    episodes = first.select(
        stay_id="patient",
        response=pl.lit("sepsis"),
        onset=_after_admission(onset),
        end=pl.lit(None),
        known_at=_after_admission(onset + known_after_hours),
    )
    return to_contract("episodes", episodes)
