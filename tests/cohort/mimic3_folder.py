"""A small folder of MIMIC-III's tables, with a few true things of each kind in it."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl

Tables = dict[str, pl.DataFrame]
DAY = "2150-03-0"
"""Days of the first patient's stay: 1 to 4."""


def _frame(columns: str, *rows: tuple[object, ...]) -> pl.DataFrame:
    names = columns.split()
    cells = [[None if cell is None else str(cell) for cell in row] for row in rows]
    return pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String), orient="row")


def tables() -> Tables:
    """Three adults: 11 (CareVue), 12 (MetaVision, two stays of one admission) and 13, over 89; and a child, 14."""
    chart = "row_id subject_id hadm_id icustay_id itemid charttime storetime value valuenum valueuom error"
    return {
        "icustays": _frame(
            "row_id subject_id hadm_id icustay_id dbsource first_careunit intime outtime",
            (1, 11, 111, 1001, "carevue", "MICU", "2150-03-01 10:00:00", "2150-03-04 10:00:00"),
            (2, 12, 112, 1002, "metavision", "SICU", "2160-01-01 00:00:00", "2160-01-02 12:00:00"),
            (3, 12, 112, 1003, "metavision", "SICU", "2160-01-03 00:00:00", "2160-01-05 00:00:00"),
            (4, 13, 113, 1004, "metavision", "CCU", "2170-01-01 00:00:00", "2170-01-03 00:00:00"),
            (5, 14, 114, 1005, "carevue", "MICU", "2170-01-01 00:00:00", "2170-01-03 00:00:00"),
        ),
        "admissions": _frame(
            "row_id subject_id hadm_id admittime dischtime admission_type",
            (1, 11, 111, "2150-03-01 08:00:00", "2150-03-09 00:00:00", "EMERGENCY"),
            (2, 12, 112, "2159-12-31 00:00:00", "2160-01-09 00:00:00", "URGENT"),
            (3, 13, 113, "2170-01-01 00:00:00", "2170-01-09 00:00:00", "ELECTIVE"),
            (4, 14, 114, "2170-01-01 00:00:00", "2170-01-09 00:00:00", "EMERGENCY"),
        ),
        "patients": _frame(
            "row_id subject_id gender dob",
            (1, 11, "F", "2100-03-01 00:00:00"),
            (2, 12, "M", "2095-01-01 00:00:00"),
            (3, 13, "M", "1870-01-01 00:00:00"),
            (4, 14, "F", "2160-01-01 00:00:00"),
        ),
        "services": _frame(
            "row_id subject_id hadm_id transfertime curr_service",
            (1, 11, 111, "2150-03-01 08:00:00", "MED"),
            (2, 12, 112, "2159-12-31 00:00:00", "CSURG"),
            (3, 13, 113, "2170-01-01 00:00:00", "MED"),
        ),
        "chartevents": _frame(
            chart,
            (1, 11, 111, 1001, 211, "2150-03-01 11:00:00", "2150-03-01 11:20:00", "88", "88", "BPM", None),
            (2, 11, 111, None, 211, "2150-03-01 12:00:00", "2150-03-01 11:50:00", "90", "90", "BPM", None),
            (3, 11, 111, 1001, 678, "2150-03-01 11:00:00", "2150-03-01 11:20:00", "98.6", "98.6", "Deg. F", None),
            (4, 11, 111, 1001, 190, "2150-03-01 11:00:00", "2150-03-01 11:20:00", ".5", "0.5", "torr", None),
            (5, 11, 111, 1001, 920, "2150-03-01 10:00:00", "2150-03-01 10:00:00", "70", "70", "inches", None),
            (6, 11, 111, 1001, 762, "2150-03-01 10:00:00", "2150-03-01 10:00:00", "50", "50", "kg", None),
            (7, 11, 111, 1001, 184, "2150-03-01 13:00:00", "2150-03-01 13:05:00", "4 Spontaneously", "4", None, None),
            (8, 11, 111, 1001, 454, "2150-03-01 13:00:00", "2150-03-01 13:05:00", "6 Obeys Commands", "6", None, None),
            (9, 11, 111, 1001, 723, "2150-03-01 13:00:00", "2150-03-01 13:05:00", "1.0 ET/Trach", "1", None, None),
            (10, 11, 111, 1001, 198, "2150-03-01 13:00:00", "2150-03-01 13:05:00", "11", "11", "points", None),
            (11, 11, 111, 1001, 720, "2150-03-01 13:00:00", "2150-03-01 13:05:00", "Assist Control", None, None, None),
            (12, 11, 111, 1001, 646, "2150-03-01 13:00:00", "2150-03-01 13:05:00", "no data", None, "%", None),
            (13, 12, 112, 1002, 220045, "2160-01-01 01:00:00", "2160-01-01 01:10:00", "70", "70", "bpm", "0"),
            (14, 12, 112, 1002, 220045, "2160-01-01 02:00:00", "2160-01-01 02:10:00", "71", "71", "bpm", "1"),
            (15, 12, 112, 1002, 220179, "2160-01-01 02:00:00", "2160-01-01 02:10:00", "11647", "11647", "mmHg", "0"),
            (16, 12, 112, 1002, 220050, "2160-01-01 03:00:00", "2160-01-01 03:10:00", "111", "111", "mmHg", "0"),
            (17, 12, 112, 1002, 220179, "2160-01-01 03:00:00", "2160-01-01 03:10:00", "120", "120", "mmHg", "0"),
            (18, 12, 112, 1002, 226531, "2160-01-01 00:00:00", "2160-01-01 00:00:00", "200", "200", None, "0"),
            (19, 12, 112, 1002, 226732, "2160-01-01 03:00:00", "2160-01-01 03:10:00", "Face tent", None, None, "0"),
            (20, 12, 112, 1003, 220045, "2160-01-03 01:00:00", "2160-01-03 01:10:00", "72", "72", "bpm", "0"),
            (21, 13, 113, 1004, 220045, "2170-01-01 01:00:00", "2170-01-01 01:10:00", "60", "60", "bpm", "0"),
            (22, 13, 113, 1004, 220045, "2170-01-09 01:00:00", "2170-01-09 01:10:00", "61", "61", "bpm", "0"),
            (23, 13, 113, 1004, 220048, "2170-01-01 01:00:00", "2170-01-01 01:10:00", "SR", None, None, "0"),
            (24, 14, 114, 1005, 211, "2170-01-01 01:00:00", "2170-01-01 01:10:00", "99", "99", "BPM", None),
        ),
        "labevents": _frame(
            "row_id subject_id hadm_id itemid charttime value valuenum valueuom",
            (1, 11, None, 50912, "2150-03-01 09:00:00", "1.4", "1.4", "mg/dL"),
            (2, 11, 111, 50821, "2150-03-01 12:00:00", "80", "80", "mm Hg"),
            (3, 11, 111, 50800, "2150-03-01 12:00:00", "ART", None, None),
            (4, 11, 111, 50821, "2150-03-01 14:00:00", "40", "40", "mm Hg"),
            (5, 11, 111, 50800, "2150-03-01 14:00:00", "VEN", None, None),
            (6, 11, 111, 50889, "2150-03-01 14:00:00", "8.9", "8.9", "mg/dL"),
            (7, 11, 111, 50889, "2150-03-02 14:00:00", "250", "250", "mg/L"),
            (8, 12, 112, 50912, "2160-01-02 20:00:00", "2.0", "2.0", "mg/dL"),
            (9, 12, 112, 51478, "2160-01-01 20:00:00", "250", "250", "mg/dL"),
            (10, 11, 111, 50912, "2149-03-01 09:00:00", "1.0", "1.0", "mg/dL"),
        ),
        "outputevents": _frame(
            "row_id subject_id hadm_id icustay_id charttime itemid value valueuom storetime iserror",
            (1, 11, 111, 1001, "2150-03-01 12:00:00", 40055, "100", "ml", "2150-03-01 12:30:00", None),
            (2, 12, 112, 1002, "2160-01-01 05:00:00", 227489, "3200", "mL", "2160-01-01 05:10:00", None),
            (3, 12, 112, 1002, "2160-01-01 05:00:00", 227488, "3000", "mL", "2160-01-01 05:15:00", None),
        ),
        "procedureevents_mv": _frame(
            "row_id subject_id hadm_id icustay_id starttime endtime itemid value storetime statusdescription",
            *(
                (n, 12, 112, 1003, start, end, item, "1", end, "FinishedRunning")
                for n, (start, end, item) in enumerate(
                    [
                        ("2160-01-03 02:00:00", "2160-01-03 12:00:00", 225792),
                        ("2160-01-03 12:00:00", "2160-01-03 12:01:00", 227194),
                    ]
                )
            ),
        ),
        "inputevents_cv": _frame(
            "row_id subject_id hadm_id icustay_id charttime itemid amount amountuom rate rateuom storetime stopped",
            (1, 11, 111, 1001, "2150-03-01 11:00:00", 30047, None, None, "5", "mcgmin", "2150-03-01 11:10:00", None),
            (2, 11, 111, 1001, "2150-03-01 12:00:00", 30047, "0.3", "mg", None, None, "2150-03-01 12:10:00", None),
            (3, 11, 111, 1001, "2150-03-01 13:00:00", 30047, None, None, "10", "mcgmin", "2150-03-01 13:10:00", None),
            (4, 11, 111, 1001, "2150-03-01 14:00:00", 30047, None, None, None, None, "2150-03-01 14:10:00", "Stopped"),
            (5, 11, 111, 1001, "2150-03-01 15:00:00", 30018, "250", "ml", None, None, "2150-03-01 15:10:00", None),
        ),
        "inputevents_mv": _frame(
            "row_id subject_id hadm_id icustay_id starttime endtime itemid amount amountuom rate rateuom storetime"
            " ordercategorydescription patientweight statusdescription",
            *(
                (n, 12, 112, 1002, f"2160-01-01 {start}:00", f"2160-01-01 {end}:00", *dose, stored, kind, 90, status)
                for n, (start, end, dose, kind, status) in enumerate(
                    [
                        ("01:00", "03:00", (221906, "1", "mg", "0.1", "mcg/kg/min"), "Continuous Med", "Stopped"),
                        ("01:00", "02:00", (221906, "1", "mg", "0.2", "mcg/kg/min"), "Continuous Med", "Rewritten"),
                        ("01:00", "01:01", (225798, "1", "dose", None, None), "Drug Push", "FinishedRunning"),
                        ("02:00", "03:00", (222168, "450", "mg", "83.3333", "mcg/kg/min"), "Continuous Med", "Stopped"),
                        ("04:00", "06:00", (222011, "2", "grams", None, None), "Continuous IV", "FinishedRunning"),
                    ]
                )
                for stored in ["2160-01-01 01:30:00"]
            ),
        ),
        "prescriptions": _frame(
            "row_id subject_id hadm_id icustay_id startdate enddate drug_type drug route",
            (1, 11, 111, None, "2150-03-01 00:00:00", "2150-03-03 00:00:00", "MAIN", "CeftriaXONE", "IV"),
            (2, 11, 111, None, "2150-03-01 00:00:00", "2150-03-03 00:00:00", "MAIN", "Ciprofloxacin", "RIGHT EYE"),
            (3, 12, 112, None, "2160-01-01 00:00:00", "2160-01-02 00:00:00", "MAIN", "Vancomycin", "IV"),
            (4, 12, 112, None, "2160-01-01 00:00:00", None, "MAIN", "PredniSONE", "PO"),
            (5, 12, 112, None, "2160-01-01 00:00:00", None, "MAIN", "Senna", "PO"),
        ),
        "microbiologyevents": _frame(
            "row_id subject_id hadm_id chartdate charttime spec_type_desc org_name",
            (1, 11, 111, "2150-03-01 00:00:00", "2150-03-01 09:30:00", "BLOOD CULTURE", None),
            (2, 11, 111, "2150-03-01 00:00:00", "2150-03-01 09:30:00", "BLOOD CULTURE", "E. COLI"),
            (3, 12, 112, "2160-01-01 00:00:00", None, "URINE", None),
        ),
    }


def write(folder: Path, written: Tables, *, form: str = "csv.gz", upper: bool = True) -> Path:
    """The tables as files, with headers in either case."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in written.items():
        spelled = table.rename(str.upper if upper else str.lower)
        file = folder / f"{name.upper() if upper else name}.{form}"
        if form == "parquet":
            spelled.select(typed(column) for column in spelled.columns).write_parquet(file)
        else:
            text = spelled.write_csv().encode()
            file.write_bytes(gzip.compress(text, mtime=0) if form == "csv.gz" else text)
    return folder


def typed(column: str) -> pl.Expr:
    """A column as a database would type it."""
    name, text = column.lower(), pl.col(column)
    if name in ("subject_id", "hadm_id", "icustay_id", "itemid", "row_id", "error"):
        return text.cast(pl.Int64)
    if name in ("valuenum", "amount", "rate", "patientweight"):
        return text.cast(pl.Float64)
    if name.endswith("time") or name.endswith("date") or name == "dob":
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S")
    return text
