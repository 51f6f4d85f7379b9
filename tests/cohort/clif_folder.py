"""A small folder of CLIF: two patients, three stays in intensive care, times in UTC."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.sources.clif import Clif, ClifOptions
from flowsheet.config import CohortConfig, Policy, QuarantineConfig
from tests.cohort.mimic3_folder import RawTables, SourceResult

_TABLES = {
    "clif_patient": """patient_id,sex_category,race_category,death_dttm
P12,Female,White,
P13,Male,Unknown,2160-01-05 18:00:00+00:00
""",
    "clif_hospitalization": """
patient_id,hospitalization_id,admission_dttm,discharge_dttm,age_at_admission,discharge_category
P12,H-112,2160-01-01 10:00:00+00:00,2160-01-09 10:00:00+00:00,64,Home
P13,H-113,2160-01-02 10:00:00+00:00,2160-01-05 18:00:00+00:00,70,Expired
""",
    "clif_adt": """hospitalization_id,in_dttm,out_dttm,location_category,location_type
H-113,2160-01-02 10:00:00+00:00,2160-01-05 18:00:00+00:00,icu,medical_icu
H-112,2160-01-01 10:00:00+00:00,2160-01-01 15:00:00+00:00,ed,
H-112,2160-01-01 15:00:00+00:00,2160-01-02 15:00:00+00:00,icu,medical_icu
H-112,2160-01-02 15:02:00+00:00,2160-01-03 15:00:00+00:00,icu,surgical_icu
H-112,2160-01-03 15:00:00+00:00,2160-01-05 15:00:00+00:00,ward,
H-112,2160-01-05 15:00:00+00:00,2160-01-06 15:00:00+00:00,icu,medical_icu
""",
    "clif_vitals": """hospitalization_id,recorded_dttm,vital_category,vital_value
H-112,2160-01-01 16:00:00+00:00,heart_rate,88
H-112,2160-01-01 16:00:00+00:00,map,60
H-112,2160-01-01 16:00:00+00:00,weight_kg,80
H-112,2160-01-02 17:00:00+00:00,temp_c,37.5
H-112,2160-01-05 16:00:00+00:00,heart_rate,92
H-113,2160-01-02 12:00:00+00:00,heart_rate,101
H-113,2160-01-02 12:00:00+00:00,spo2,95
""",
    "clif_labs": """
hospitalization_id,lab_collect_dttm,lab_result_dttm,lab_category,lab_value_numeric,reference_unit
H-112,2160-01-01 16:00:00+00:00,2160-01-01 17:30:00+00:00,creatinine,1.4,mg/dL
H-112,2160-01-01 16:00:00+00:00,,platelet_count,150,10^3/\N{MICRO SIGN}L
H-112,2160-01-01 16:00:00+00:00,2160-01-01 16:10:00+00:00,calcium_ionized,4.48,mg/dL
H-112,2160-01-01 16:00:00+00:00,2160-01-01 16:40:00+00:00,bilirubin_total,2.5,mg/dL
H-113,2160-01-02 12:00:00+00:00,2160-01-02 13:00:00+00:00,troponin_t,30,ng/L
H-113,2160-01-02 12:00:00+00:00,2160-01-02 13:00:00+00:00,inr,1.1,(no units)
""",
    "clif_respiratory_support": """
hospitalization_id,recorded_dttm,device_category,mode_category,fio2_set,lpm_set,peep_set,\
tidal_volume_set,resp_rate_set
H-112,2160-01-01 16:00:00+00:00,IMV,Pressure Support/CPAP,0.5,,8,450,14
H-112,2160-01-02 16:00:00+00:00,Nasal Cannula,,,2,,,
H-113,2160-01-02 12:00:00+00:00,High Flow NC,,0.6,40,,,
""",
    "clif_patient_assessments": """
hospitalization_id,recorded_dttm,assessment_category,numerical_value
H-112,2160-01-01 16:00:00+00:00,gcs_eye,2
H-112,2160-01-01 16:00:00+00:00,gcs_motor,5
H-112,2160-01-01 16:00:00+00:00,gcs_verbal,0
H-113,2160-01-02 12:00:00+00:00,gcs_total,14
H-113,2160-01-02 12:00:00+00:00,RASS,-1
""",
    "clif_medication_admin_continuous": """
hospitalization_id,med_order_id,med_category,admin_dttm,med_dose,med_dose_unit,mar_action_category
H-112,o1,norepinephrine,2160-01-01 16:00:00+00:00,0.1,mcg/kg/min,start
H-112,o1,norepinephrine,2160-01-01 22:00:00+00:00,0.2,mcg/kg/min,dose_change
H-112,o1,norepinephrine,2160-01-02 08:00:00+00:00,0,mcg/kg/min,stop
""",
    "clif_medication_admin_intermittent": """
hospitalization_id,med_category,admin_dttm,med_dose,med_dose_unit,med_route_category,\
mar_action_category
H-112,vancomycin,2160-01-01 20:00:00+00:00,1000,mg,iv,given
H-112,cefepime,2160-01-02 20:00:00+00:00,2,g,iv,given
H-112,cefepime,2160-01-02 21:00:00+00:00,2,g,iv,not_given
""",
    "clif_crrt_therapy": """hospitalization_id,recorded_dttm,crrt_mode_category,blood_flow_rate
H-113,2160-01-03 12:00:00+00:00,cvvhdf,200
""",
    "clif_code_status": """patient_id,start_dttm,code_status_category
P12,2160-01-01 16:00:00+00:00,Full
P13,2160-01-04 12:00:00+00:00,AND
""",
    "clif_microbiology_culture": """
patient_id,hospitalization_id,collect_dttm,fluid_category,method_category
P12,H-112,2160-01-01 18:00:00+00:00,blood_buffy,culture
P12,H-112,2160-01-01 18:00:00+00:00,blood_buffy,gram_stain
""",
}
_NEW_SPELLINGS = {
    "Female": "female",
    "Male": "male",
    "White": "white",
    "Unknown": "unknown",
    "Home": "home",
    "Expired": "expired",
    "IMV": "imv",
    "Pressure Support/CPAP": "ps_or_cpap",
    "Nasal Cannula": "nasal_cannula",
    "High Flow NC": "hfnc",
    "RASS": "rass",
    "Full": "full",
    "AND": "and",
}
"""Categories of 2.1 and of 3.0."""


def clif_tables(version: str = "2.1") -> RawTables:
    """The raw tables by name, to be changed at will; all cells are text."""
    tables = {}
    for name, text in _TABLES.items():
        table = pl.read_csv(text.strip().encode(), infer_schema=False)
        if version == "3.0":
            table = table.with_columns(pl.all().replace(_NEW_SPELLINGS))
        tables[name] = table
    return tables


def write_clif(folder: Path, tables: RawTables, suffix: str = "csv.gz") -> Path:
    """Write the tables, as CSV or as Parquet with times in UTC."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        path = folder / f"{name}.{suffix}"
        if suffix == "parquet":
            typed = [_typed(column) for column in table.columns]
            table.with_columns(typed).write_parquet(path)
            continue
        text = table.write_csv().encode()
        path.write_bytes(gzip.compress(text, mtime=0) if suffix == "csv.gz" else text)
    return folder


def _typed(column: str) -> pl.Expr:
    text = pl.col(column)
    if column.endswith("_dttm"):
        return text.str.to_datetime("%Y-%m-%d %H:%M:%S%:z", time_zone="UTC")
    numeric = ("_value", "_numeric", "_set", "_rate", "med_dose", "age_at_admission")
    return text.cast(pl.Float64) if column.endswith(numeric) else text


def make_clif(folder: Path, **options: Any) -> Clif:
    return Clif(folder, ClifOptions(**options))


def read_clif(folder: Path, **options: Any) -> SourceResult:
    """Read all batches of a folder."""
    batches = list(make_clif(folder, **options).batches())
    tables = (pl.concat(getattr(batch, name) for batch in batches) for name in TABLES)
    return SourceResult(Tables(*tables), batches)


def ingest_clif(
    folder: Path, target: Path, policy: Policy = Policy.quarantine, **options: Any
) -> Extract:
    """Ingest a folder with one policy for all rules."""
    quarantine = QuarantineConfig(default=policy, max_share=0.9, rules={})
    config = CohortConfig(name="small", source="clif", allow_empty=True, quarantine=quarantine)
    return ingest(make_clif(folder, **options), config, target, lambda line: None)
