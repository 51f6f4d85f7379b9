"""Stays out of ICUSTAYS, ADMISSIONS, PATIENTS and SERVICES."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort.comorbidity import score_comorbidity
from flowsheet.cohort.schema import to_contract
from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.table_reader import read_table
from flowsheet.typing import Ints

_MAX_TRUE_AGE = 150.0
"""Years; patients over 89 seem older, as the database shifts their birth by 300 years."""
_HOURS_PER_YEAR = 365.2425 * 24


@dataclass(frozen=True)
class Stays:
    """The selected stays, and what is needed to match rows of other tables to stays."""

    table: pl.DataFrame
    """The selected stays: the contract's columns and ``hadm_id``, ascending by ``stay_id``."""
    all_ids: Ints
    """Ids of all stays in ICUSTAYS, ascending."""
    attrition: dict[str, int]
    """Stays that remain after each step of the selection."""
    admissions: pl.DataFrame
    """(icustay_id, hadm_id) of all stays in ICUSTAYS."""
    windows: pl.DataFrame
    """(subject_id, stay_id, start, end): the time of each sound stay in which rows of its subject
    belong to it; sorted by subject and start."""
    admission_times: pl.DataFrame
    """(hadm_id, first, last): when the hospital admissions of the selected stays begin and end."""

    @property
    def ids(self) -> Ints:
        """Ids of the selected stays, ascending."""
        return np.asarray(self.table["stay_id"].to_numpy())


def read_stays(tables: Mapping[str, RawTable], options: Mimic3Options, log: ExclusionLog) -> Stays:
    """Read, join and select the stays."""
    icu_stays = _read_icu_stays(tables["icustays"], log)
    admissions = _read_admissions(tables["admissions"], log)
    patients = _read_patients(tables["patients"], log)
    attrition = {"in the raw tables": icu_stays.height}
    stays = icu_stays.join(admissions.drop("subject_id", "row"), on="hadm_id")
    stays = stays.join(patients.drop("row"), on="subject_id")
    attrition["with their admission and patient"] = stays.height
    stays = stays.drop_nulls(["intime", "outtime", "dob"])
    attrition["with start and end times"] = stays.height
    stays = _end_at_death(stays)
    attrition["of patients alive at the start"] = stays.height
    ends_too_early = pl.col("outtime") <= pl.col("intime")
    stays = log.reject(stays, ends_too_early, "icustays", "outtime", "discharge_before_admission")
    attrition["that end after they start"] = stays.height
    windows = make_windows(stays, options)
    stays = _select(stays, tables, options, log, attrition)
    stays = _add_comorbidity(stays, admissions, tables, log)
    all_ids = np.sort(icu_stays["icustay_id"].drop_nulls().to_numpy())
    admissions_of_stays = icu_stays.select("icustay_id", "hadm_id").drop_nulls()
    times = admissions.select(
        "hadm_id",
        first=pl.min_horizontal("admittime", "edregtime"),
        last=pl.max_horizontal("dischtime", "deathtime"),
    )
    times = times.join(stays.select("hadm_id").unique(), on="hadm_id", how="semi")
    return Stays(_to_contract(stays), all_ids, attrition, admissions_of_stays, windows, times)


def _end_at_death(stays: pl.DataFrame) -> pl.DataFrame:
    """The stays with ``outtime`` at the earlier of the unit's discharge and death.

    Stays that begin after the patient's death (organ donors) are dropped.
    """
    is_alive = (pl.col("intime") < pl.col("deathtime")).fill_null(value=True)
    end = pl.min_horizontal("outtime", "deathtime")
    return stays.filter(is_alive).with_columns(outtime=end)


def _read_icu_stays(table: RawTable, log: ExclusionLog) -> pl.DataFrame:
    return _reject_duplicates(read_table(table, log), "icustays", "icustay_id", log)


def _read_admissions(table: RawTable, log: ExclusionLog) -> pl.DataFrame:
    rows = read_table(table, log)
    ends_too_early = pl.col("dischtime") < pl.col("admittime")
    rows = log.reject(rows, ends_too_early, "admissions", "dischtime", "discharge_before_admission")
    return _reject_duplicates(rows, "admissions", "hadm_id", log)


def _read_patients(table: RawTable, log: ExclusionLog) -> pl.DataFrame:
    return _reject_duplicates(read_table(table, log), "patients", "subject_id", log)


def _reject_duplicates(rows: pl.DataFrame, table: str, key: str, log: ExclusionLog) -> pl.DataFrame:
    """Reject rows whose key is null or occurs before.

    Rows are sorted by their values first: the result does not depend on the order of the file.
    """
    is_duplicate = ~pl.col(key).is_first_distinct() | pl.col(key).is_null()
    rows = rows.sort(pl.exclude("row"), nulls_last=True)
    return log.reject(rows, is_duplicate, table, key, "duplicate_key")


def _select(
    stays: pl.DataFrame,
    tables: Mapping[str, RawTable],
    options: Mimic3Options,
    log: ExclusionLog,
    attrition: dict[str, int],
) -> pl.DataFrame:
    """Select stays by the options.

    Args:
        stays: ICUSTAYS joined with their admission and patient.
        tables: the raw tables; SERVICES is read where the options name services.
        options: the options of the source.
        log: receives the defects of SERVICES.
        attrition: receives the number of stays that remain after each step.
    """
    age_hours = (pl.col("intime") - pl.col("dob")).dt.total_seconds() / 3600
    age = age_hours / _HOURS_PER_YEAR
    age = pl.when(age > _MAX_TRUE_AGE).then(options.age_over_89).otherwise(age)
    stay_hours = (pl.col("outtime") - pl.col("intime")).dt.total_seconds() / 3600
    if options.first_stay_only:
        stays = stays.sort("subject_id", "intime", "icustay_id")
        stays = stays.unique("subject_id", keep="first", maintain_order=True)
        attrition["first stay of the patient"] = stays.height
    stays = stays.with_columns(age=age).filter(pl.col("age") >= options.min_age)
    attrition[f"aged {options.min_age:g} or over"] = stays.height
    stays = stays.filter(stay_hours >= options.min_hours)
    attrition[f"of {options.min_hours:g} h or more"] = stays.height
    if options.max_hours is not None:
        stays = stays.filter(stay_hours <= options.max_hours)
        attrition[f"of {options.max_hours:g} h or less"] = stays.height
    if options.excluded_services:
        services = _find_first_services(stays, tables["services"], log)
        stays = stays.filter(~services.is_in(options.excluded_services))
        attrition[f"not under {', '.join(options.excluded_services)}"] = stays.height
    return stays


def _find_first_services(stays: pl.DataFrame, table: RawTable, log: ExclusionLog) -> pl.Series:
    """The service under which each stay starts, "" where there is none.

    It is the last one before the stay's start, else the first one after it.
    """
    services = read_table(table, log).drop("row")
    pairs = stays.select("icustay_id", "hadm_id", "intime").join(services, on="hadm_id")
    is_later = pl.col("transfertime") > pl.col("intime")
    distance = (pl.col("intime") - pl.col("transfertime")).abs()
    pairs = pairs.sort(pl.col("icustay_id"), is_later, distance, "curr_service")
    first = pairs.unique("icustay_id", keep="first").select("icustay_id", "curr_service")
    matched = stays.join(first, on="icustay_id", how="left", maintain_order="left")
    return matched["curr_service"].fill_null("")


def _add_comorbidity(
    stays: pl.DataFrame,
    admissions: pl.DataFrame,
    tables: Mapping[str, RawTable],
    log: ExclusionLog,
) -> pl.DataFrame:
    """The stays with the comorbidity scores of the admissions that ended before their own began.

    Args:
        stays: the selected stays, with ``subject_id`` and ``admittime``.
        admissions: all admissions.
        tables: the raw tables; DIAGNOSES_ICD may be missing.
        log: receives the defects of DIAGNOSES_ICD.
    """
    earlier = stays.select("icustay_id", "subject_id", "admittime").join(
        admissions.select("subject_id", "hadm_id", "dischtime"), on="subject_id"
    )
    earlier = earlier.filter(pl.col("dischtime") < pl.col("admittime"))
    codes = pl.DataFrame(schema={"stay_id": pl.Int64(), "icd9_code": pl.String()})
    if "diagnoses_icd" in tables:
        diagnoses = read_table(tables["diagnoses_icd"], log).join(earlier, on="hadm_id")
        codes = diagnoses.select("icd9_code", stay_id="icustay_id")
    scores = score_comorbidity(codes).rename({"stay_id": "icustay_id"})
    return stays.join(scores, on="icustay_id", how="left", maintain_order="left")


def _to_contract(stays: pl.DataFrame) -> pl.DataFrame:
    sex = pl.col("gender").str.to_uppercase()
    columns = stays.select(
        stay_id="icustay_id",
        subject_id="subject_id",
        site=pl.col("dbsource").str.to_lowercase(),
        hospital_admitted_at=pl.min_horizontal("admittime", "edregtime"),
        admitted_at="intime",
        discharged_at="outtime",
        died_at="deathtime",
        hospital_death=pl.col("hospital_expire_flag") == 1,
        age="age",
        sex=pl.when(sex.is_in(["F", "M"])).then(sex),
        unit="first_careunit",
        admission_type="admission_type",
        ethnicity=_non_empty("ethnicity"),
        insurance=_non_empty("insurance"),
        charlson="charlson",
        elixhauser="elixhauser",
        hadm_id="hadm_id",
    )
    contract = to_contract("stays", columns)
    return contract.with_columns(columns["hadm_id"].cast(pl.Int64)).sort("stay_id")


def _non_empty(column: str) -> pl.Expr:
    return pl.when(pl.col(column) != "").then(column)


def make_windows(stays: pl.DataFrame, options: Mimic3Options) -> pl.DataFrame:
    """The windows of the stays: from some hours before a stay to some hours after it.

    Windows of one patient do not overlap: the time between two stays belongs to the later one, and
    no window starts before the end of the stay before it.

    Args:
        stays: subject_id, icustay_id, intime and outtime of all sound stays.
        options: ``before_hours`` and ``after_hours``.

    Returns:
        (subject_id, stay_id, start, end), sorted by subject and start.
    """
    before = pl.duration(hours=options.before_hours)
    after = pl.duration(hours=options.after_hours)
    rows = stays.select("subject_id", "intime", "outtime", stay_id="icustay_id")
    rows = rows.sort("subject_id", "intime", "outtime", "stay_id")
    previous_end = pl.col("outtime").shift(1).over("subject_id")
    earliest = (
        pl.when(previous_end < pl.col("intime"))
        .then(previous_end)
        .when(previous_end.is_not_null())
        .then("intime")
    )
    rows = rows.with_columns(start=pl.max_horizontal(pl.col("intime") - before, earliest))
    next_start = pl.col("start").shift(-1).over("subject_id")
    end = pl.min_horizontal(pl.col("outtime") + after, next_start - pl.duration(microseconds=1))
    return rows.select("subject_id", "stay_id", "start", end=end)
