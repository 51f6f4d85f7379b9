"""The CSV files of the raw tables, with the columns of MIMIC-III v1.4.

There is one open file per table; a thread compresses while the next rows are prepared.
"""

from __future__ import annotations

import gzip
import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Literal, cast

import polars as pl

_COLUMNS = {
    "CHARTEVENTS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID ITEMID CHARTTIME STORETIME CGID VALUE VALUENUM "
        "VALUEUOM WARNING ERROR RESULTSTATUS STOPPED"
    ),
    "LABEVENTS": "ROW_ID SUBJECT_ID HADM_ID ITEMID CHARTTIME VALUE VALUENUM VALUEUOM FLAG",
    "OUTPUTEVENTS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID CHARTTIME ITEMID VALUE VALUEUOM STORETIME CGID "
        "STOPPED NEWBOTTLE ISERROR"
    ),
    "PRESCRIPTIONS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID STARTDATE ENDDATE DRUG_TYPE DRUG DRUG_NAME_POE "
        "DRUG_NAME_GENERIC FORMULARY_DRUG_CD GSN NDC PROD_STRENGTH DOSE_VAL_RX DOSE_UNIT_RX "
        "FORM_VAL_DISP FORM_UNIT_DISP ROUTE"
    ),
    "INPUTEVENTS_CV": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID CHARTTIME ITEMID AMOUNT AMOUNTUOM RATE RATEUOM "
        "STORETIME CGID ORDERID LINKORDERID STOPPED NEWBOTTLE ORIGINALAMOUNT ORIGINALAMOUNTUOM "
        "ORIGINALROUTE ORIGINALRATE ORIGINALRATEUOM ORIGINALSITE"
    ),
    "INPUTEVENTS_MV": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID STARTTIME ENDTIME ITEMID AMOUNT AMOUNTUOM RATE "
        "RATEUOM STORETIME CGID ORDERID LINKORDERID ORDERCATEGORYNAME SECONDARYORDERCATEGORYNAME "
        "ORDERCOMPONENTTYPEDESCRIPTION ORDERCATEGORYDESCRIPTION PATIENTWEIGHT TOTALAMOUNT "
        "TOTALAMOUNTUOM ISOPENBAG CONTINUEINNEXTDEPT CANCELREASON STATUSDESCRIPTION "
        "COMMENTS_EDITEDBY COMMENTS_CANCELEDBY COMMENTS_DATE ORIGINALAMOUNT ORIGINALRATE"
    ),
    "MICROBIOLOGYEVENTS": (
        "ROW_ID SUBJECT_ID HADM_ID CHARTDATE CHARTTIME SPEC_ITEMID SPEC_TYPE_DESC ORG_ITEMID "
        "ORG_NAME ISOLATE_NUM AB_ITEMID AB_NAME DILUTION_TEXT DILUTION_COMPARISON DILUTION_VALUE "
        "INTERPRETATION"
    ),
    "PROCEDUREEVENTS_MV": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID STARTTIME ENDTIME ITEMID VALUE VALUEUOM LOCATION "
        "LOCATIONCATEGORY STORETIME CGID ORDERID LINKORDERID ORDERCATEGORYNAME "
        "SECONDARYORDERCATEGORYNAME ORDERCATEGORYDESCRIPTION ISOPENBAG CONTINUEINNEXTDEPT "
        "CANCELREASON STATUSDESCRIPTION COMMENTS_EDITEDBY COMMENTS_CANCELEDBY COMMENTS_DATE"
    ),
    "ICUSTAYS": (
        "ROW_ID SUBJECT_ID HADM_ID ICUSTAY_ID DBSOURCE FIRST_CAREUNIT LAST_CAREUNIT FIRST_WARDID "
        "LAST_WARDID INTIME OUTTIME LOS"
    ),
    "ADMISSIONS": (
        "ROW_ID SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME ADMISSION_TYPE "
        "ADMISSION_LOCATION DISCHARGE_LOCATION INSURANCE LANGUAGE RELIGION MARITAL_STATUS "
        "ETHNICITY EDREGTIME EDOUTTIME DIAGNOSIS HOSPITAL_EXPIRE_FLAG HAS_CHARTEVENTS_DATA"
    ),
    "PATIENTS": "ROW_ID SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG",
    "SERVICES": "ROW_ID SUBJECT_ID HADM_ID TRANSFERTIME PREV_SERVICE CURR_SERVICE",
    "D_ITEMS": (
        "ROW_ID ITEMID LABEL ABBREVIATION DBSOURCE LINKSTO CATEGORY UNITNAME PARAM_TYPE CONCEPTID"
    ),
    "D_LABITEMS": "ROW_ID ITEMID LABEL FLUID CATEGORY LOINC_CODE",
}

COLUMNS: dict[str, tuple[str, ...]] = {
    table: tuple(columns.split()) for table, columns in _COLUMNS.items()
}
"""Tables and their columns, as in the database's documentation."""

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
_MAX_PENDING_BLOCKS = 2
"""Blocks of rows that may wait for the compressor."""


class CsvFiles:
    """One open file per table. Rows are numbered as they come."""

    def __init__(self, folder: Path, compress: bool) -> None:
        self.folder = folder
        self.compress = compress
        self.n_rows: dict[str, int] = dict.fromkeys(COLUMNS, 0)
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        self._compressor = ThreadPoolExecutor(1)
        self._pending: deque[Future[int]] = deque()

    def __enter__(self) -> CsvFiles:
        for table, columns in COLUMNS.items():
            header = ",".join(f'"{column}"' for column in columns)
            self._files[table] = self._open(table)
            self._files[table].write(header.encode() + b"\n")
        return self

    def __exit__(self, *exc: object) -> None:
        self._compressor.shutdown(wait=True, cancel_futures=exc[0] is not None)
        self._stack.close()
        if exc[0] is None:
            self._wait_for_blocks(0)

    def add(self, table: str, frame: pl.DataFrame) -> None:
        """Write rows; ROW_ID is added, and columns that are not in the frame are empty."""
        columns = (
            pl.col(column) if column in frame.columns else pl.lit(None).alias(column)
            for column in COLUMNS[table][1:]
        )
        self._write(table, frame.select(columns), "necessary")

    def add_formatted(self, table: str, parts: pl.DataFrame) -> None:
        """Write rows of which the parts of the lines are formatted already, with commas and quotes.

        Args:
            table: name of the table.
            parts: text columns; joined with commas they are the lines without ROW_ID.
        """
        self._write(table, parts, "never")

    def _write(
        self, table: str, frame: pl.DataFrame, quote_style: Literal["necessary", "never"]
    ) -> None:
        if frame.is_empty():
            return
        first = self.n_rows[table] + 1
        self.n_rows[table] += frame.height
        row_id = pl.int_range(first, first + frame.height).alias("ROW_ID")
        buffer = io.BytesIO()
        frame.select(row_id, pl.all()).write_csv(
            buffer,
            include_header=False,
            quote_style=quote_style,
            datetime_format=_TIME_FORMAT,
        )
        block = buffer.getbuffer()
        self._pending.append(self._compressor.submit(self._files[table].write, block))
        self._wait_for_blocks(_MAX_PENDING_BLOCKS)

    def _wait_for_blocks(self, n: int) -> None:
        """Wait until at most ``n`` blocks are left to write; a full disk raises its error here."""
        while len(self._pending) > n:
            self._pending.popleft().result()

    def _open(self, table: str) -> IO[bytes]:
        if not self.compress:
            return self._stack.enter_context((self.folder / f"{table}.csv").open("wb"))
        file = self._stack.enter_context((self.folder / f"{table}.csv.gz").open("wb"))
        stream = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0)
        return cast(IO[bytes], self._stack.enter_context(stream))
