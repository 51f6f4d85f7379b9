"""Write the simulated ward as raw records: at any size, a few stays at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.sources.base import StayBatch
from flowsheet.cohort.sources.simulated import SimulatedWard
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.raw_export.admissions import make_admission_tables
from flowsheet.raw_export.chart_events import chart_days, draw_days
from flowsheet.raw_export.clif_shape import ClifShape
from flowsheet.raw_export.csv_shape import Mimic3Shape, Mimic4Shape
from flowsheet.raw_export.day_template import DayTemplate, make_day_template
from flowsheet.raw_export.items import SYSTEMS
from flowsheet.raw_export.meds_shape import MedsShape
from flowsheet.raw_export.options import ExportOptions, complete_options
from flowsheet.raw_export.orders import make_order_tables
from flowsheet.raw_export.patients import Patients, make_patients, shift_episodes
from flowsheet.raw_export.shape import Shape
from flowsheet.raw_export.truth import TruthWriter
from flowsheet.state.json_files import write_json
from flowsheet.state.publish import publish
from flowsheet.typing import Progress

SHAPES: dict[str, type[Shape]] = {
    "mimic3": Mimic3Shape,
    "mimic4": Mimic4Shape,
    "clif": ClifShape,
    "meds": MedsShape,
}
"""Formats of raw records by the name of the source that reads them."""

STAYS_PER_BLOCK = 100
"""Stays that are written at once; these have half a million rows."""
CHARTED_TABLES = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
"""Tables that are charted around the clock."""
_PATIENTS, _ORDERS, _ADMISSIONS, _FIRST_TABLE = range(4)
"""Streams of random numbers; what one draws changes nothing in the others."""


def write_raw_records(
    shape_name: str, ward: WardOptions, options: ExportOptions, target: Path, progress: Progress
) -> dict[str, Any]:
    """Write the tables to a folder, all or none, and the true values to ``truth/`` in it.

    The same ward and options give the same patients, values and times in every format.

    Args:
        shape_name: a key of ``SHAPES``.
        ward: options of the simulated ward.
        options: how the ward is charted.
        target: the folder; an older one is replaced.
        progress: receives a line for every hundred stays.

    Returns:
        The content of ``truth/summary.json``: rows by table, and data errors by table.

    Raises:
        FlowsheetError: the disk is full or not writable.
        UsageError: the format cannot contain what an option asks for.
    """
    options = complete_options(options, is_mimic3=shape_name == "mimic3")
    with publish(target) as folder:
        with (
            SHAPES[shape_name](folder, options) as shape,
            TruthWriter(folder / "truth", options.truth) as truth,
        ):
            writer = _Writer(options, shape, truth)
            n_stays = 0
            for block, batch in enumerate(_split_batches(ward)):
                writer.write(batch, block)
                n_stays += batch.stays.height
                n_events = truth.error_counts["CHARTEVENTS"]["rows"]
                progress(f"{n_stays:,} of {ward.stays:,} stays, {n_events:,} chart events")
            shape.finish()
        data_errors: dict[str, Counter[str]] = defaultdict(Counter)
        for table, counts in truth.error_counts.items():
            data_errors[shape.table_name(table)].update(counts)
        summary = {
            "format": shape_name,
            "rows": dict(shape.n_rows),
            "data_errors": {table: dict(counts) for table, counts in data_errors.items()},
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


class _Writer:
    """Writes blocks of stays in a format, and their true values."""

    def __init__(self, options: ExportOptions, shape: Shape, truth: TruthWriter) -> None:
        self.options = options
        self.shape = shape
        self.truth = truth

    def write(self, batch: StayBatch, block: int) -> None:
        """Write the stays of a block; its number seeds the random numbers."""
        options = self.options
        patients = make_patients(batch, options, _make_rng(options, block, _PATIENTS))
        for stream, table in enumerate(CHARTED_TABLES, _FIRST_TABLE):
            self._write_charted(table, patients, _make_rng(options, block, stream))
        orders = make_order_tables(batch, patients, options, _make_rng(options, block, _ORDERS))
        admissions = make_admission_tables(patients, _make_rng(options, block, _ADMISSIONS))
        self.shape.add_tables(orders.tables | admissions)
        self.truth.count_errors("INPUTEVENTS_MV", {"rewritten": orders.n_rewritten})
        self.truth.add("treatments", orders.truth)
        episodes = shift_episodes(batch, patients.stays)
        self.truth.add("episodes", episodes.select("icustay_id", "onset", "end", "known_at"))
        self.truth.add("stays", _select_true_stays(patients))

    def _write_charted(self, table: str, patients: Patients, rng: np.random.Generator) -> None:
        """Write what is charted in one of ``CHARTED_TABLES``."""
        options = self.options
        draws = draw_days(_get_day_template(table, 0, options), len(patients.day), options, rng)
        with_flagged = self.shape.has_error_flags
        for system in range(len(SYSTEMS)):
            selected = patients.select(patients.is_metavision == bool(system)).split_days(rng)
            if selected.stays.is_empty():
                continue
            template = _get_day_template(table, system, options)
            rows = chart_days(template, selected, options, draws, with_flagged=with_flagged)
            self.shape.add_charted(template, selected, rows)
            self.truth.count_errors(table, rows.error_counts)
            self.truth.add("events", rows.truth.with_columns(table=pl.lit(table)))


@lru_cache(maxsize=16)
def _get_day_template(table: str, system: int, options: ExportOptions) -> DayTemplate:
    return make_day_template(table, system, options)


def _make_rng(options: ExportOptions, block: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, block, stream])


def _select_true_stays(patients: Patients) -> pl.DataFrame:
    times = ("icustay_id", "hadm_id", "intime", "outtime", "dbsource")
    person = ("age", "sex", "unit", "height_cm", "weight_kg")
    return patients.stays.select(
        *("stay_id", *times, *person), subject_id="raw_subject", newborn="is_newborn"
    )
