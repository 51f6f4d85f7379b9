"""Stays out of the tables of stays, admissions, patients and services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.comorbidity import score_comorbidity
from flowsheet.cohort.engine.cells import CELL_TYPES
from flowsheet.cohort.engine.database import Database
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.files import RawTable
from flowsheet.cohort.engine.locations import join_locations
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.roles import FIELDS
from flowsheet.cohort.engine.table_reader import read_table
from flowsheet.cohort.schema import to_contract
from flowsheet.errors import UsageError
from flowsheet.typing import Ints

_MAX_TRUE_AGE = 150.0
"""Years; patients over 89 seem older where a database shifts their birth by 300 years."""
_HOURS_PER_YEAR = 365.2425 * 24
_OLDEST_SHOWN = 89
"""Years; a higher age in a year is hidden."""
_CODES = {"stay_id": pl.Int64(), "version": pl.Int32(), "code": pl.String()}
_UNKNOWN_VERSION = 0
_PERSON_ROLES = ("admissions", "patients")
_SUBJECTS = {"hadm_id": pl.Int64, "subject_id": pl.Int64}


@dataclass(frozen=True)
class Stays:
    """The selected stays, and what is needed to match rows of other tables to stays."""

    table: pl.DataFrame
    """The selected stays: the contract's columns and ``hadm_id``, ascending by ``stay_id``."""
    all_ids: Ints
    """Ids of all stays of the database, ascending."""
    attrition: dict[str, int]
    """Stays that remain after each step of the selection."""
    admissions: pl.DataFrame
    """(stay_id, hadm_id) of all stays of the database."""
    windows: pl.DataFrame
    """(subject_id, stay_id, start, end): the time of each sound stay in which rows of its subject
    belong to it; sorted by subject and start."""
    admission_times: pl.DataFrame
    """(subject_id, hadm_id, first, last): when the admissions of the selected stays begin and end.
    """
    patients: Ints | None = None
    """Ids of all subjects of the table of patients, ascending; None if there is no such table."""
    subjects: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_SUBJECTS))
    """(hadm_id, subject_id) of all hospital admissions."""

    @property
    def ids(self) -> Ints:
        """Ids of the selected stays, ascending."""
        return np.asarray(self.table["stay_id"].to_numpy())


def read_stays(
    database: Database,
    tables: Mapping[str, RawTable],
    options: DatabaseOptions,
    log: ExclusionLog,
) -> Stays:
    """Read, join and select the stays.

    Args:
        database: the database.
        tables: its raw tables.
        options: the options of the source.
        log: receives the defects.
    """
    reader = _StayReader(database, tables, options, log, {})
    return reader.read()


@dataclass(frozen=True)
class _StayReader:
    """Reads the tables of stays, admissions, patients, services and diagnoses."""

    database: Database
    tables: Mapping[str, RawTable]
    options: DatabaseOptions
    log: ExclusionLog
    attrition: dict[str, int]

    def read(self) -> Stays:
        """Read, join and select the stays."""
        icu_stays = self._read_stays()
        self.attrition["in the raw tables"] = icu_stays.height
        admissions = self._read_admissions(icu_stays)
        stays = icu_stays
        subjects: Ints | None = None
        if name := self.database.table_of("admissions"):
            described = self.database.tables[name].columns
            others = [field for field in FIELDS["admissions"] if field not in described]
            known = [column for column in stays.columns if column != "hadm_id"]
            stays = stays.join(admissions.drop(*known, *others, strict=False), on="hadm_id")
        if self.database.table_of("patients"):
            patients = self._read_role("patients", "subject_id")
            stays = stays.join(patients.drop("row"), on="subject_id")
            subjects = np.sort(patients["subject_id"].drop_nulls().to_numpy())
        stays = _add_missing_fields(stays)
        self.attrition["with their admission and patient"] = stays.height
        has_age = self._find_age_fields()
        stays = stays.drop_nulls(["admitted_at", "discharged_at", *has_age])
        self.attrition["with start and end times"] = stays.height
        stays = _end_at_death(_correct_deaths(stays))
        self.attrition["of patients alive at the start"] = stays.height
        stays = self._reject_early_ends(stays, "stays", "admitted_at", "discharged_at")
        self.attrition["that end after they start"] = stays.height
        windows = make_windows(stays, self.options)
        stays = self._add_comorbidity(self._select(stays), admissions)
        return Stays(
            table=_to_contract(stays),
            all_ids=np.sort(icu_stays["stay_id"].drop_nulls().to_numpy()),
            attrition=self.attrition,
            admissions=icu_stays.select("stay_id", "hadm_id").drop_nulls(),
            subjects=admissions.select("hadm_id", "subject_id").drop_nulls(),
            windows=windows,
            admission_times=_find_admission_times(admissions, stays),
            patients=subjects,
        )

    def _read_stays(self) -> pl.DataFrame:
        """The stays; without ids of them, they are numbered within their admission."""
        name = self.database.stay_table
        if "stay_id" not in self.database.tables[name].columns:
            rows = read_table(self.tables[name], self.log)
            rows = self._reject_early_ends(rows, "stays", "admitted_at", "discharged_at")
            rows = rows.select(*self.database.tables[name].columns, "row")
            is_unnamed = pl.col("hadm_id").is_null()
            rows = self.log.exclude(rows, is_unnamed, f"{name}: without an admission")
            is_undated = pl.col("admitted_at").is_null()
            return join_locations(self.log.exclude(rows, is_undated, f"{name}: without a time"))
        stays = self._read_role("stays", "stay_id")
        has_admission = "hadm_id" in stays.columns
        return stays if has_admission else stays.with_columns(hadm_id="stay_id")

    def _read_role(self, role: str, key: str) -> pl.DataFrame:
        """The fields of a role's table that the database has, one row for each key."""
        name = self.database.table_of(role)
        assert name is not None
        rows = read_table(self.tables[name], self.log)
        rows = rows.select(*self.database.tables[name].columns, "row")
        return self._reject_duplicates(rows, name, key)

    def _read_admissions(self, icu_stays: pl.DataFrame) -> pl.DataFrame:
        """The hospital admissions; without a table of them, each stay is one."""
        name = self.database.table_of("admissions")
        if name is None:
            own = _add_missing_fields(icu_stays).unique("hadm_id", keep="first")
            return own.with_columns(
                pl.coalesce("hospital_admitted_at", "admitted_at"),
                pl.coalesce("hospital_discharged_at", "discharged_at"),
            )
        rows = read_table(self.tables[name], self.log)
        rows = self._reject_early_ends(
            rows, "admissions", "hospital_admitted_at", "hospital_discharged_at"
        )
        return self._reject_duplicates(rows, name, "hadm_id")

    def _find_age_fields(self) -> list[str]:
        """The fields without which a stay's age is unknown; none if the database has no ages."""
        fields = {
            field
            for role in ("stays", *_PERSON_ROLES)
            if (name := self.database.table_of(role))
            for field in self.database.tables[name].columns
        }
        return [field for field in ("born_at", "age", "age_year") if field in fields]

    def _reject_early_ends(
        self, rows: pl.DataFrame, role: str, start: str, end: str
    ) -> pl.DataFrame:
        """Reject stays that end at or before their start, and admissions that end before it."""
        name = self.database.table_of(role)
        assert name is not None
        is_early = pl.col(end) < pl.col(start)
        if role == "stays":
            is_early = pl.col(end) <= pl.col(start)
        return self.log.reject(rows, is_early, name, end, "discharge_before_admission")

    def _reject_duplicates(self, rows: pl.DataFrame, table: str, key: str) -> pl.DataFrame:
        """Reject rows whose key is null or occurs before.

        Rows are sorted by their values first: the result does not depend on the file's order.
        """
        is_duplicate = ~pl.col(key).is_first_distinct() | pl.col(key).is_null()
        rows = rows.sort(pl.exclude("row"), nulls_last=True)
        return self.log.reject(rows, is_duplicate, table, key, "duplicate_key")

    def _select(self, stays: pl.DataFrame) -> pl.DataFrame:
        """Select stays by the options."""
        options, attrition = self.options, self.attrition
        stay_hours = (pl.col("discharged_at") - pl.col("admitted_at")).dt.total_seconds() / 3600
        if options.first_stay_only:
            stays = stays.sort("subject_id", "admitted_at", "stay_id")
            stays = stays.unique("subject_id", keep="first", maintain_order=True)
            attrition["first stay of the patient"] = stays.height
        stays = stays.with_columns(age=_compute_age(options.age_over_89))
        if self._find_age_fields():
            stays = stays.filter(pl.col("age") >= options.min_age)
            attrition[f"aged {options.min_age:g} or over"] = stays.height
        stays = stays.filter(stay_hours >= options.min_hours)
        attrition[f"of {options.min_hours:g} h or more"] = stays.height
        if options.max_hours is not None:
            stays = stays.filter(stay_hours <= options.max_hours)
            attrition[f"of {options.max_hours:g} h or less"] = stays.height
        if options.excluded_services:
            services = self._find_first_services(stays)
            stays = stays.filter(~services.is_in(options.excluded_services))
            attrition[f"not under {', '.join(options.excluded_services)}"] = stays.height
        return stays

    def _find_first_services(self, stays: pl.DataFrame) -> pl.Series:
        """The service under which each stay starts, "" where there is none.

        It is the last one before the stay's start, else the first one after it.
        """
        name = self.database.table_of("services")
        if name is None:
            raise UsageError(
                f"{self.database.spec.title} has no table of services",
                where="cohort.options.excluded_services",
                todo="leave the option out",
            )
        services = read_table(self.tables[name], self.log).drop("row")
        pairs = stays.select("stay_id", "hadm_id", "admitted_at").join(services, on="hadm_id")
        is_later = pl.col("time") > pl.col("admitted_at")
        distance = (pl.col("admitted_at") - pl.col("time")).abs()
        pairs = pairs.sort(pl.col("stay_id"), is_later, distance, "service")
        first = pairs.unique("stay_id", keep="first").select("stay_id", "service")
        matched = stays.join(first, on="stay_id", how="left", maintain_order="left")
        return matched["service"].fill_null("")

    def _add_comorbidity(self, stays: pl.DataFrame, admissions: pl.DataFrame) -> pl.DataFrame:
        """The stays with the comorbidity scores of admissions that ended before their own began.

        Args:
            stays: the selected stays, with ``subject_id`` and ``hospital_admitted_at``.
            admissions: all admissions.
        """
        earlier = stays.select("stay_id", "subject_id", "hospital_admitted_at").join(
            admissions.select("subject_id", "hadm_id", "hospital_discharged_at"), on="subject_id"
        )
        is_earlier = pl.col("hospital_discharged_at") < pl.col("hospital_admitted_at")
        earlier = earlier.filter(is_earlier)
        codes = pl.DataFrame(schema=_CODES)
        name = self.database.table_of("diagnoses")
        if name and name in self.tables:
            diagnoses = read_table(self.tables[name], self.log).join(earlier, on="hadm_id")
            has_version = "code_version" in self.database.tables[name].columns
            codes = self._select_codes(diagnoses, name, has_version)
        scores = score_comorbidity(codes)
        return stays.join(scores, on="stay_id", how="left", maintain_order="left")

    def _select_codes(self, diagnoses: pl.DataFrame, table: str, has_version: bool) -> pl.DataFrame:
        """The codes of ICD-9 and ICD-10; in a database without versions they are of ICD-9.

        A score without the codes of an unknown version would be too low: such stays have none.
        """
        unstated = _UNKNOWN_VERSION if has_version else catalogue.ICD_VERSIONS[0]
        version = pl.col("code_version").cast(pl.Int32).fill_null(unstated)
        codes = diagnoses.select("stay_id", "code", version=version).select(list(_CODES))
        others = codes.filter(~pl.col("version").is_in(catalogue.ICD_VERSIONS))
        reason = f"{table}: of stays with codes that are not of ICD-9 or ICD-10 (no comorbidity)"
        has_others = pl.col("stay_id").is_in(others["stay_id"].unique().implode())
        return self.log.exclude(codes, has_others, reason)


def _add_missing_fields(stays: pl.DataFrame) -> pl.DataFrame:
    """The stays with null in the fields that no table of the database has."""
    fields = {**FIELDS["stays"], **FIELDS["admissions"], **FIELDS["patients"]}
    missing = {field: kind for field, kind in fields.items() if field not in stays.columns}
    return stays.with_columns(
        pl.lit(None, CELL_TYPES[kind]).alias(field) for field, kind in missing.items()
    )


def _find_admission_times(admissions: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """(subject_id, hadm_id, first, last): when the admissions of the stays begin and end."""
    times = admissions.select(
        "subject_id",
        "hadm_id",
        first=pl.min_horizontal("hospital_admitted_at", "emergency_admitted_at"),
        last=pl.max_horizontal("hospital_discharged_at", "died_at"),
    )
    return times.join(stays.select("hadm_id").unique(), on="hadm_id", how="semi")


def _correct_deaths(stays: pl.DataFrame) -> pl.DataFrame:
    """The stays without deaths before a discharge alive, of which only the day may be known.

    Who died in the hospital at a time that is not recorded did so at the discharge.
    """
    is_dead, is_known = pl.col("hospital_death") == 1, pl.col("died_at").is_not_null()
    no_earlier = pl.max_horizontal("died_at", "hospital_discharged_at")
    died_at = pl.when(~is_dead & is_known).then(no_earlier).otherwise("died_at")
    is_undated = is_dead & ~is_known & pl.col("died_on").is_null()
    died_at = pl.when(is_undated).then("hospital_discharged_at").otherwise(died_at)
    return stays.with_columns(died_at=died_at)


def _end_at_death(stays: pl.DataFrame) -> pl.DataFrame:
    """The stays with ``discharged_at`` at the earlier of the unit's discharge and death.

    Stays that begin after the patient's death (organ donors) are dropped.
    """
    is_alive = (pl.col("admitted_at") < pl.col("died_at")).fill_null(value=True)
    end = pl.min_horizontal("discharged_at", "died_at")
    return stays.filter(is_alive).with_columns(discharged_at=end)


def _compute_age(age_over_89: float) -> pl.Expr:
    """Years at admission, by the birth, by the age in some year, or as recorded."""
    hours = (pl.col("admitted_at") - pl.col("born_at")).dt.total_seconds() / 3600
    since_birth = hours / _HOURS_PER_YEAR
    since_birth = pl.when(since_birth > _MAX_TRUE_AGE).then(age_over_89).otherwise(since_birth)
    years_later = pl.col("admitted_at").dt.year() - pl.col("age_year")
    recorded = pl.col("age") + years_later.fill_null(0)
    is_hidden = pl.col("age_year").is_not_null() & (pl.col("age") > _OLDEST_SHOWN)
    recorded = pl.when(is_hidden).then(age_over_89).otherwise(recorded)
    return pl.coalesce(since_birth, recorded)


def _to_contract(stays: pl.DataFrame) -> pl.DataFrame:
    sex = pl.col("sex").str.to_uppercase().replace({"FEMALE": "F", "MALE": "M"})
    columns = stays.select(
        stay_id="stay_id",
        subject_id="subject_id",
        site=pl.col("site").str.to_lowercase(),
        hospital_admitted_at=pl.min_horizontal("hospital_admitted_at", "emergency_admitted_at"),
        admitted_at="admitted_at",
        discharged_at="discharged_at",
        died_at=pl.coalesce("died_at", _find_later_death()),
        hospital_death=pl.col("hospital_death") == 1,
        age="age",
        sex=pl.when(sex.is_in(["F", "M"])).then(sex),
        unit="unit",
        admission_type="admission_type",
        ethnicity=_non_empty("ethnicity"),
        insurance=_non_empty("insurance"),
        charlson="charlson",
        elixhauser="elixhauser",
        hadm_id="hadm_id",
    )
    contract = to_contract("stays", columns)
    return contract.with_columns(columns["hadm_id"].cast(pl.Int64)).sort("stay_id")


def _find_later_death() -> pl.Expr:
    """The end of the day of death, where only the day is recorded and the stay ended before."""
    end_of_day = pl.col("died_on") + pl.duration(days=1)
    return pl.when(end_of_day >= pl.col("discharged_at")).then(end_of_day)


def _non_empty(column: str) -> pl.Expr:
    return pl.when(pl.col(column) != "").then(column)


def make_windows(stays: pl.DataFrame, options: DatabaseOptions) -> pl.DataFrame:
    """The windows of the stays: from some hours before a stay to some hours after it.

    Windows of one patient do not overlap: the time between two stays belongs to the later one, and
    no window starts before the end of the stay before it.

    Args:
        stays: subject_id, stay_id, admitted_at and discharged_at of all sound stays.
        options: ``before_hours`` and ``after_hours``.

    Returns:
        (subject_id, stay_id, start, end), sorted by subject and start.
    """
    before = pl.duration(hours=options.before_hours)
    after = pl.duration(hours=options.after_hours)
    rows = stays.select("subject_id", "admitted_at", "discharged_at", "stay_id")
    rows = rows.sort("subject_id", "admitted_at", "discharged_at", "stay_id")
    previous_end = pl.col("discharged_at").shift(1).over("subject_id")
    earliest = (
        pl.when(previous_end < pl.col("admitted_at"))
        .then(previous_end)
        .when(previous_end.is_not_null())
        .then("admitted_at")
    )
    rows = rows.with_columns(start=pl.max_horizontal(pl.col("admitted_at") - before, earliest))
    next_start = pl.col("start").shift(-1).over("subject_id")
    end = pl.min_horizontal(
        pl.col("discharged_at") + after, next_start - pl.duration(microseconds=1)
    )
    return rows.select("subject_id", "stay_id", "start", end=end)
