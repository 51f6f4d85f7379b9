"""PRESCRIPTIONS: orders of the doses, and of drugs that the catalogue does not map."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.raw_export.doses import DRUG_NAMES
from flowsheet.raw_export.patients import Patients

_OTHER_DRUGS = (
    *("Docusate Sodium", "Acetaminophen", "Senna", "Bisacodyl", "Ondansetron", "Aspirin"),
    *("Simvastatin", "Lisinopril", "Multivitamins", "Thiamine", "FoLIC Acid", "Lactulose"),
    *("Atorvastatin", "Gabapentin", "Levothyroxine Sodium"),
)
_OTHER_ORDERS_PER_DAY = 12
_FIRST_HOUR = 8
"""Hour of the day at which those orders start."""
_MINUTES_AFTER_LAST_DOSE = 60
"""From the last dose to the end of its order."""
_IDS = ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID")


def make_prescription_rows(doses: pl.DataFrame) -> pl.DataFrame:
    """Orders of the doses, with times and dates; a course is one order."""
    keys = [*_IDS, "drug", "amount"]
    start = pl.col("start")
    single_doses = doses.filter(~pl.col("is_course")).select(*keys, first=start, last=start)
    by_course = doses.filter("is_course").group_by(keys, maintain_order=True)
    courses = by_course.agg(first=start.min(), last=start.max())
    is_insulin = pl.col("drug") == "insulin"
    return pl.concat([single_doses, courses]).select(
        *_IDS,
        STARTTIME="first",
        STOPTIME=pl.col("last") + pl.duration(minutes=_MINUTES_AFTER_LAST_DOSE),
        STARTDATE=pl.col("first").dt.truncate("1d"),
        ENDDATE=pl.col("last").dt.truncate("1d"),
        DRUG_TYPE=pl.lit("MAIN"),
        DRUG=pl.col("drug").replace_strict(DRUG_NAMES),
        PROD_STRENGTH=pl.lit("1 Vial"),
        DOSE_VAL_RX=pl.col("amount"),
        DOSE_UNIT_RX=pl.when(is_insulin).then(pl.lit("UNIT")).otherwise(pl.lit("mg")),
        FORM_VAL_DISP=pl.lit(1),
        FORM_UNIT_DISP=pl.lit("VIAL"),
        ROUTE=pl.when(is_insulin).then(pl.lit("SC")).otherwise(pl.lit("IV")),
    )


def make_other_prescription_rows(
    patients: Patients, ids: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Orders of drugs that the catalogue does not map."""
    n = len(patients.day_stay) * _OTHER_ORDERS_PER_DAY
    day_start = patients.day_start.astype("datetime64[D]").astype("datetime64[us]")
    first_day = np.repeat(day_start, _OTHER_ORDERS_PER_DAY)
    n_days = rng.integers(0, 5, n).astype("timedelta64[D]")
    rows = pl.DataFrame(
        {
            "stay": np.repeat(patients.day_stay, _OTHER_ORDERS_PER_DAY),
            "STARTTIME": first_day + np.timedelta64(_FIRST_HOUR, "h"),
            "STOPTIME": first_day + n_days + np.timedelta64(_FIRST_HOUR, "h"),
            "STARTDATE": first_day,
            "ENDDATE": first_day + n_days,
            "DRUG": np.array(_OTHER_DRUGS)[rng.integers(0, len(_OTHER_DRUGS), n)],
            "DOSE_VAL_RX": rng.integers(1, 20, n) * 5,
        },
        schema_overrides={"stay": pl.Int64},
    )
    return rows.join(ids, on="stay", maintain_order="left").select(
        *(*_IDS, "STARTTIME", "STOPTIME", "STARTDATE", "ENDDATE", "DRUG", "DOSE_VAL_RX"),
        DRUG_TYPE=pl.lit("MAIN"),
        DRUG_NAME_POE="DRUG",
        DRUG_NAME_GENERIC="DRUG",
        FORMULARY_DRUG_CD=pl.lit("XXXX5"),
        GSN=pl.lit("009156"),
        NDC=pl.lit("00004200278"),
        PROD_STRENGTH=pl.lit("5 mg Tablet"),
        DOSE_UNIT_RX=pl.lit("mg"),
        FORM_VAL_DISP=pl.lit(1),
        FORM_UNIT_DISP=pl.lit("TAB"),
        ROUTE=pl.lit("PO"),
    )
