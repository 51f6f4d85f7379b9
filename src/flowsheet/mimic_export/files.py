"""The raw files: MIMIC-III v1.4's columns, one stream each, compressed beside the work that fills them."""

from __future__ import annotations

import gzip
import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import polars as pl

COLUMNS: dict[str, str] = {
    "CHARTEVENTS": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,CGID,VALUE,VALUENUM,VALUEUOM,"
    "WARNING,ERROR,RESULTSTATUS,STOPPED",
    "LABEVENTS": "ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,FLAG",
    "OUTPUTEVENTS": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,CHARTTIME,ITEMID,VALUE,VALUEUOM,STORETIME,CGID,STOPPED,"
    "NEWBOTTLE,ISERROR",
    "PRESCRIPTIONS": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTDATE,ENDDATE,DRUG_TYPE,DRUG,DRUG_NAME_POE,"
    "DRUG_NAME_GENERIC,FORMULARY_DRUG_CD,GSN,NDC,PROD_STRENGTH,DOSE_VAL_RX,DOSE_UNIT_RX,FORM_VAL_DISP,FORM_UNIT_DISP,"
    "ROUTE",
    "INPUTEVENTS_CV": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,CHARTTIME,ITEMID,AMOUNT,AMOUNTUOM,RATE,RATEUOM,STORETIME,"
    "CGID,ORDERID,LINKORDERID,STOPPED,NEWBOTTLE,ORIGINALAMOUNT,ORIGINALAMOUNTUOM,ORIGINALROUTE,ORIGINALRATE,"
    "ORIGINALRATEUOM,ORIGINALSITE",
    "INPUTEVENTS_MV": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,AMOUNT,AMOUNTUOM,RATE,RATEUOM,"
    "STORETIME,CGID,ORDERID,LINKORDERID,ORDERCATEGORYNAME,SECONDARYORDERCATEGORYNAME,ORDERCOMPONENTTYPEDESCRIPTION,"
    "ORDERCATEGORYDESCRIPTION,PATIENTWEIGHT,TOTALAMOUNT,TOTALAMOUNTUOM,ISOPENBAG,CONTINUEINNEXTDEPT,CANCELREASON,"
    "STATUSDESCRIPTION,COMMENTS_EDITEDBY,COMMENTS_CANCELEDBY,COMMENTS_DATE,ORIGINALAMOUNT,ORIGINALRATE",
    "MICROBIOLOGYEVENTS": "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,SPEC_ITEMID,SPEC_TYPE_DESC,ORG_ITEMID,"
    "ORG_NAME,ISOLATE_NUM,AB_ITEMID,AB_NAME,DILUTION_TEXT,DILUTION_COMPARISON,DILUTION_VALUE,INTERPRETATION",
    "PROCEDUREEVENTS_MV": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,VALUE,VALUEUOM,LOCATION,"
    "LOCATIONCATEGORY,STORETIME,CGID,ORDERID,LINKORDERID,ORDERCATEGORYNAME,SECONDARYORDERCATEGORYNAME,"
    "ORDERCATEGORYDESCRIPTION,ISOPENBAG,CONTINUEINNEXTDEPT,CANCELREASON,STATUSDESCRIPTION,COMMENTS_EDITEDBY,"
    "COMMENTS_CANCELEDBY,COMMENTS_DATE",
    "ICUSTAYS": "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,FIRST_CAREUNIT,LAST_CAREUNIT,FIRST_WARDID,LAST_WARDID,"
    "INTIME,OUTTIME,LOS",
    "ADMISSIONS": "ROW_ID,SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME,ADMISSION_TYPE,ADMISSION_LOCATION,"
    "DISCHARGE_LOCATION,INSURANCE,LANGUAGE,RELIGION,MARITAL_STATUS,ETHNICITY,EDREGTIME,EDOUTTIME,DIAGNOSIS,"
    "HOSPITAL_EXPIRE_FLAG,HAS_CHARTEVENTS_DATA",
    "PATIENTS": "ROW_ID,SUBJECT_ID,GENDER,DOB,DOD,DOD_HOSP,DOD_SSN,EXPIRE_FLAG",
    "SERVICES": "ROW_ID,SUBJECT_ID,HADM_ID,TRANSFERTIME,PREV_SERVICE,CURR_SERVICE",
    "D_ITEMS": "ROW_ID,ITEMID,LABEL,ABBREVIATION,DBSOURCE,LINKSTO,CATEGORY,UNITNAME,PARAM_TYPE,CONCEPTID",
    "D_LABITEMS": "ROW_ID,ITEMID,LABEL,FLUID,CATEGORY,LOINC_CODE",
}
"""Tables and columns as in the database's documentation."""

TIME = "%Y-%m-%d %H:%M:%S"
WAITING = 2
"""Blocks of a table that may wait for the compressor."""


class RawFiles:
    """One open file a table. Rows are numbered as they come; the bytes depend on the rows alone."""

    def __init__(self, folder: Path, compress: bool) -> None:
        self.folder, self.compress = folder, compress
        self.rows: dict[str, int] = dict.fromkeys(COLUMNS, 0)
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[int]] = deque()

    def __enter__(self) -> RawFiles:
        for table, columns in COLUMNS.items():
            self._files[table] = self._open(table)
            self._files[table].write(
                ",".join(f'"{c}"' for c in columns.split(",")).encode() + b"\n"
            )
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=exc[0] is not None)
        self._stack.close()
        if exc[0] is None:
            self._settle(0)

    def add(self, table: str, frame: pl.DataFrame, quote: bool = True) -> None:
        """Write rows without their ROW_ID; absent columns are empty. With ``quote`` off, the
        columns are parts of lines in the file's order, ready with their commas and quotes."""
        if frame.is_empty():
            return
        names = COLUMNS[table].split(",")[1:]
        if quote:
            frame = frame.select(
                (pl.col(n) if n in frame.columns else pl.lit(None)).alias(n) for n in names
            )
        first = self.rows[table] + 1
        self.rows[table] += frame.height
        numbered = frame.select(pl.int_range(first, first + frame.height).alias("ROW_ID"), pl.all())
        buffer = io.BytesIO()
        numbered.write_csv(
            buffer,
            include_header=False,
            quote_style="necessary" if quote else "never",
            datetime_format=TIME,
        )
        self._waiting.append(self._pool.submit(self._files[table].write, buffer.getbuffer()))
        self._settle(WAITING)

    def _settle(self, waiting: int) -> None:
        """Wait until only so many blocks are left to write; a full disk is said here."""
        while len(self._waiting) > waiting:
            self._waiting.popleft().result()

    def _open(self, table: str) -> IO[bytes]:
        if not self.compress:
            return self._stack.enter_context((self.folder / f"{table}.csv").open("wb"))
        raw = self._stack.enter_context((self.folder / f"{table}.csv.gz").open("wb"))
        stream = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0)
        return cast(IO[bytes], self._stack.enter_context(stream))
