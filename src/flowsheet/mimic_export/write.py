"""Write the simulated ward as raw tables of MIMIC-III: at any size, a few stays at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.sources.simulated import SimulatedWard
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.mimic_export.admissions import make_admission_tables
from flowsheet.mimic_export.chart_events import ChartedRows, chart_days
from flowsheet.mimic_export.csv_files import CsvFiles
from flowsheet.mimic_export.day_template import DayTemplate, make_day_template
from flowsheet.mimic_export.dictionaries import make_dictionary_tables
from flowsheet.mimic_export.items import SYSTEMS
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.mimic_export.orders import make_order_tables
from flowsheet.mimic_export.patients import Patients, make_patients, shift_episodes
from flowsheet.mimic_export.truth import TruthWriter
from flowsheet.state.json_files import write_json
from flowsheet.state.publish import publish
from flowsheet.typing import Progress, Times

STAYS_PER_BLOCK = 100
"""Stays that are written at once; these have half a million rows."""
CHARTED_TABLES = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
"""Tables that are charted around the clock."""


def write_mimic3(
    ward: WardOptions, options: ExportOptions, target: Path, progress: Progress
) -> dict[str, Any]:
    """Write the tables to a folder, all or none, and the true values to ``truth/`` in it.

    Args:
        ward: options of the simulated ward.
        options: how the ward is charted.
        target: the folder; an older one is replaced.
        progress: receives a line for every hundred stays.

    Returns:
        The content of ``truth/summary.json``: rows by table, and data errors by table.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    with publish(target) as folder:
        with (
            CsvFiles(folder, options.compress) as files,
            TruthWriter(folder / "truth", options.truth) as truth,
        ):
            for block, batch in enumerate(_split_batches(ward)):
                _write_block(batch, block, options, files, truth)
                n_stays = files.n_rows["ICUSTAYS"]
                n_events = files.n_rows["CHARTEVENTS"]
                progress(f"{n_stays:,} of {ward.stays:,} stays, {n_events:,} chart events")
            for table, rows in make_dictionary_tables().items():
                files.add(table, rows)
        summary = {
            "rows": files.n_rows,
            "data_errors": {table: dict(counts) for table, counts in truth.error_counts.items()},
            "ward": ward.model_dump(mode="json"),
            "options": options.model_dump(mode="json"),
        }
        write_json(folder / "truth" / "summary.json", summary)
    return summary


def _split_batches(ward: WardOptions) -> Iterator[StayBatch]:
    """The ward's stays in blocks; a subject's stays follow each other and are in one block."""
    for batch in SimulatedWard(None, ward).batches():
        for start in range(0, batch.stays.height, STAYS_PER_BLOCK):
            stays = batch.stays.slice(start, STAYS_PER_BLOCK)
            is_inside = pl.col("stay_id").is_between(stays["stay_id"][0], stays["stay_id"][-1])
            tables = {
                name: getattr(batch, name).filter(is_inside)
                for name in ("events", "treatments", "episodes")
            }
            yield replace(batch, stays=stays, **tables)


def _write_block(
    batch: StayBatch, block: int, options: ExportOptions, files: CsvFiles, truth: TruthWriter
) -> None:
    """Write some stays.

    Args:
        batch: the ward's stays.
        block: number of the block; it seeds the random numbers.
        options: how the ward is charted.
        files: the files of the tables.
        truth: receives true values and counts of data errors.
    """
    rng = np.random.default_rng([options.seed, block])
    patients = make_patients(batch, options, rng)
    for table in CHARTED_TABLES:
        for system in range(len(SYSTEMS)):
            selected = patients.select(patients.is_metavision == bool(system)).split_days(rng)
            if selected.stays.height:
                template = _get_day_template(table, system, options)
                rows = chart_days(template, selected, options, rng)
                files.add_formatted(table, _format_lines(template, selected, rows))
                truth.count_errors(table, rows.error_counts)
                truth.add("events", rows.truth.with_columns(table=pl.lit(table)))
    orders = make_order_tables(batch, patients, options, rng)
    for table, frame in (orders.tables | make_admission_tables(patients, rng)).items():
        files.add(table, frame)
    truth.count_errors("INPUTEVENTS_MV", {"rewritten": orders.n_rewritten})
    truth.add("treatments", orders.truth)
    episodes = shift_episodes(batch, patients.stays)
    truth.add("episodes", episodes.select("icustay_id", "onset", "end", "known_at"))
    truth.add("stays", _select_true_stays(patients))


@lru_cache(maxsize=16)
def _get_day_template(table: str, system: int, options: ExportOptions) -> DayTemplate:
    return make_day_template(table, system, options)


def _format_lines(template: DayTemplate, patients: Patients, rows: ChartedRows) -> pl.DataFrame:
    """The parts of a file's lines, in the order of its columns."""
    ids = _format_ids(template.table, patients, rows)
    item_ids = template.dictionary.item_id.gather(rows.entry)
    cells = template.dictionary.texts.gather(rows.cell)
    chart_times = _format_times(rows.chart_times)
    store_times = _format_times(rows.store_times)
    n_times = len(rows.store_times)
    caregivers = pl.Series((np.arange(n_times) * 7919 % 6000 + 14_000).astype(str))
    if template.table == "CHARTEVENTS":
        times = (chart_times + "," + store_times + "," + caregivers).gather(rows.time_index)
        parts = [ids, item_ids, times, cells]
    elif template.table == "LABEVENTS":
        parts = [ids, item_ids, chart_times.gather(rows.time_index), cells]
    else:
        ends = (store_times + "," + caregivers + ",,,").gather(rows.time_index)
        parts = [ids, chart_times.gather(rows.time_index), item_ids, cells, ends]
    return pl.DataFrame([part.alias(str(i)) for i, part in enumerate(parts)])


def _format_ids(table: str, patients: Patients, rows: ChartedRows) -> pl.Series:
    """SUBJECT_ID, HADM_ID and ICUSTAY_ID of the rows, of which the last one may be missing."""
    subjects = patients.stays["raw_subject"].cast(pl.String)
    admissions = patients.stays["hadm_id"].cast(pl.String)
    if table == "LABEVENTS":
        complete = subjects + "," + admissions
        incomplete = subjects + ","
    else:
        complete = subjects + "," + admissions + "," + patients.stays["icustay_id"].cast(pl.String)
        incomplete = subjects + "," + admissions + ","
    offset = np.where(rows.has_id, 0, len(subjects))
    return pl.concat([complete, incomplete]).gather(rows.stay + offset)


def _format_times(times: Times) -> pl.Series:
    return pl.Series(times).cast(TIME).cast(pl.String).str.slice(0, 19)


def _select_true_stays(patients: Patients) -> pl.DataFrame:
    times = ("icustay_id", "hadm_id", "intime", "outtime", "dbsource")
    person = ("age", "sex", "unit", "height_cm", "weight_kg")
    return patients.stays.select(
        *("stay_id", *times, *person), subject_id="raw_subject", newborn="is_newborn"
    )
