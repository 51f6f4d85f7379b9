"""The simulated ward as MIMIC-III's raw tables: any size, a few stays at a time, with the dirt counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.sources.simulated import SimulatedWard
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.mimic_export import caregivers as people
from flowsheet.mimic_export import chart_events as charting
from flowsheet.mimic_export import orders
from flowsheet.mimic_export.day_template import (
    OTHER_NUMBERS,
    OTHER_WORDS,
    Plan,
    plan,
)
from flowsheet.mimic_export.files import RawFiles
from flowsheet.mimic_export.items import SYSTEMS, free_ids
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.mimic_export.patients import Patients, admit, episodes
from flowsheet.state.json_files import write_json
from flowsheet.state.publish import publish

Progress = Callable[[str], None]
TOGETHER = 100
"""Stays that are written at once; half a million rows."""
SHEETS = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")


def write_mimic3(
    ward: WardOptions, options: ExportOptions, target: Path, progress: Progress
) -> dict[str, Any]:
    """Write the tables to the folder ``target``, whole or not at all, and what was written to
    ``target/truth``.

    Returns what ``truth/summary.json`` holds: rows by table and, by table, the dirt among them.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    with publish(target) as folder:
        with (
            RawFiles(folder, options.compress) as files,
            _Truth(folder / "truth", options) as truth,
        ):
            for number, batch in enumerate(_some_stays(ward)):
                _add(batch, number, options, files, truth)
                progress(
                    f"{files.rows['ICUSTAYS']:,} of {ward.stays:,} stays, {files.rows['CHARTEVENTS']:,} chart events"
                )
            for table, frame in people.dictionaries(_others()).items():
                files.add(table, frame)
        written = {
            "rows": files.rows,
            "dirt": {table: dict(counts) for table, counts in truth.dirt.items()},
            "ward": ward.model_dump(mode="json"),
            "options": options.model_dump(mode="json"),
        }
        write_json(folder / "truth" / "summary.json", written)
    return written


def _some_stays(ward: WardOptions) -> Iterator[StayBatch]:
    """The ward's batches in smaller ones; second stays follow their subject's first, so no subject is cut in two."""
    for batch in SimulatedWard(None, ward).batches():
        for first in range(0, batch.stays.height, TOGETHER):
            stays = batch.stays.slice(first, TOGETHER)
            low, high = stays["stay_id"][0], stays["stay_id"][-1]
            tables = {
                name: getattr(batch, name).filter(pl.col("stay_id").is_between(low, high))
                for name in ("events", "treatments", "episodes")
            }
            yield replace(batch, stays=stays, **tables)


def _add(
    batch: StayBatch, number: int, options: ExportOptions, files: RawFiles, truth: _Truth
) -> None:
    rng = np.random.default_rng([options.seed, number])
    who = admit(batch, options, rng)
    for table in SHEETS:
        for system in range(len(SYSTEMS)):
            some = who.some(who.metavision == bool(system)).in_fragments(rng)
            if some.stays.height:
                rows = charting.lay(_plan(table, system, options), some, options, rng)
                files.add(table, _lines(table, some, rows, options), quote=False)
                truth.add_events(table, rows)
    ordered = orders.orders(batch, who, options, rng)
    for table, frame in (ordered.tables | people.people(who, rng)).items():
        files.add(table, frame)
    truth.dirt.setdefault("INPUTEVENTS_MV", Counter())["rewritten"] += ordered.rewritten
    truth.add("treatments", ordered.truth)
    truth.add(
        "episodes", episodes(batch, who.stays).select("icustay_id", "onset", "end", "known_at")
    )
    truth.add("stays", _stays(who))


_PLANS: dict[tuple[str, int, str], Plan] = {}


def _plan(table: str, system: int, options: ExportOptions) -> Plan:
    key = (table, system, options.digest())
    if key not in _PLANS:
        _PLANS[key] = plan(table, system, options)
    return _PLANS[key]


def _others() -> dict[str, list[int]]:
    n = OTHER_WORDS + OTHER_NUMBERS
    return {
        "carevue": free_ids("carevue", n),
        "metavision": free_ids("metavision", n),
        "lab": free_ids("lab", 90),
    }


def _lines(table: str, who: Patients, rows: charting.Rows, options: ExportOptions) -> pl.DataFrame:
    """The parts of a file's lines, in its columns' order."""
    subject, hadm = (who.stays[c].cast(pl.String) for c in ("raw_subject", "hadm_id"))
    icu = who.stays["icustay_id"].cast(pl.String)
    ids = [subject + "," + hadm + "," + icu, subject + "," + hadm + ","]
    if table == "LABEVENTS":
        ids = [subject + "," + hadm, subject + ","]
    who_part = pl.concat(ids).gather(rows.stay + np.where(rows.has_id, 0, len(icu)))
    chart, store = (_spelled(times) for times in (rows.chart, rows.store))
    entry_part = _plan(table, int(who.metavision[0]), options).dictionary.itemid.gather(rows.entry)
    tail_part = _plan(table, int(who.metavision[0]), options).dictionary.tails.gather(rows.tail)
    caregiver = pl.Series((np.arange(len(store)) * 7919 % 6000 + 14_000).astype(str))
    if table == "CHARTEVENTS":
        times = (chart + "," + store + "," + caregiver).gather(rows.slot)
        parts = [who_part, entry_part, times, tail_part]
    elif table == "LABEVENTS":
        parts = [who_part, entry_part, chart.gather(rows.slot), tail_part]
    else:
        parts = [
            who_part,
            chart.gather(rows.slot),
            entry_part,
            tail_part,
            (store + "," + caregiver + ",,,").gather(rows.slot),
        ]
    return pl.DataFrame([part.alias(str(i)) for i, part in enumerate(parts)])


def _spelled(times: np.ndarray[Any, np.dtype[np.datetime64]]) -> pl.Series:
    return pl.Series(times).cast(TIME).cast(pl.String).str.slice(0, 19)


def _stays(who: Patients) -> pl.DataFrame:
    names = [
        "icustay_id",
        "hadm_id",
        "intime",
        "outtime",
        "dbsource",
        "age",
        "sex",
        "unit",
        "height_cm",
        "weight_kg",
    ]
    return who.stays.select("stay_id", *names, subject_id="raw_subject", newborn="_born")


class _Truth:
    """What was written: Parquet files that grow with the tables, and the dirt's tallies."""

    def __init__(self, folder: Path, options: ExportOptions) -> None:
        self.folder, self.options = folder, options
        self.dirt: dict[str, Counter[str]] = {}
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> _Truth:
        self.folder.mkdir()
        return self

    def __exit__(self, *exc: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def add_events(self, table: str, rows: charting.Rows) -> None:
        self.dirt.setdefault(table, Counter()).update(rows.dirt)
        self.add("events", rows.truth.with_columns(table=pl.lit(table)))

    def add(self, name: str, frame: pl.DataFrame) -> None:
        if not self.options.truth or frame.is_empty():
            return
        data = frame.to_arrow()
        if name not in self._writers:
            self._writers[name] = pq.ParquetWriter(
                self.folder / f"{name}.parquet", data.schema, compression="zstd"
            )
        self._writers[name].write_table(data.cast(self._writers[name].schema))
