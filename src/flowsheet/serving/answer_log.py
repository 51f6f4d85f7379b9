"""Keeps what a server answered: risks and alerts with stay ids, never inputs.

Batches are added without waiting and written by a thread every few seconds, so that a killed
server loses the last seconds at most. While nothing can be written, as on a full disk, predictions
go on: answers wait in memory up to a bound. What is lost is counted and logged: answers beyond the
bound, those that no row can be made of, and those that still wait when the server ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.errors import FlowsheetError, first_line
from flowsheet.serving.answer_files import ANSWERS, AnswerWriter
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import ScoredBatch, find_alerts
from flowsheet.serving.structured_logging import log_event
from flowsheet.state.erasures import ErasedIds, use_records

WRITE_SECONDS = 5.0
"""How often answers are written: what a killed server loses at most."""
_WRITE_ROWS = 100_000
MAX_WAITING_ROWS = 1_000_000
"""Answered steps that wait in memory at most, about 100 MB."""


@dataclass(frozen=True)
class _Batch:
    """The answers of a batch, without its inputs."""

    model: LoadedModel
    predictions: pl.DataFrame
    request_ids: Sequence[str]
    stay_ids: list[list[int]]
    subject_ids: list[list[int | None]] | None
    scored_at: datetime
    is_shadow: bool


class AnswerLog:
    """Keeps the answers of one model in files (see ``answer_files``)."""

    def __init__(
        self, folder: Path, model: str, metrics: Metrics, *, keep_subjects: bool = False
    ) -> None:
        """Prepare the folder.

        Args:
            folder: where the files are written.
            model: the registered model's name.
            metrics: count the answers that are kept and lost.
            keep_subjects: keep the ids of subjects, where they are sent.

        Raises:
            UsageError: the folder cannot be written to.
        """
        self._writer = AnswerWriter(folder, model)
        self._metrics = metrics
        self._keep_subjects = keep_subjects
        self._waiting: list[_Batch] = []
        self._unwritten = pl.DataFrame(schema=ANSWERS)
        self._waiting_rows = 0
        """Rows of both."""
        self._lock = threading.Lock()
        self._is_due = threading.Event()
        self._stopped = threading.Event()
        self._last_error: str | None = None
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Write what waits, and stop; give up, with a line in the log, after ``seconds``."""
        self._stopped.set()
        self._is_due.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            reason = f"not written within {seconds:g} s"
            log_event("answers_lost", steps=self._waiting_rows, reason=reason)

    def add(self, scored: ScoredBatch, *, is_shadow: bool = False) -> None:
        """Keep the answers of a batch; never waits for the disk.

        Args:
            scored: the batch, with the predictions of the model that answered it.
            is_shadow: the model has only scored it in the shadow.
        """
        batch = _Batch(
            model=scored.model,
            predictions=scored.predictions,
            request_ids=scored.request_ids,
            stay_ids=scored.batch.stay_ids,
            subject_ids=scored.batch.subject_ids if self._keep_subjects else None,
            scored_at=scored.scored_at,
            is_shadow=is_shadow,
        )
        rows = batch.predictions.height
        with self._lock:
            has_room = self._waiting_rows + rows <= MAX_WAITING_ROWS
            if has_room:
                self._waiting.append(batch)
                self._waiting_rows += rows
        if not has_room:
            self._count_lost(rows)
        elif self._waiting_rows >= _WRITE_ROWS and self._last_error is None:
            self._is_due.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._is_due.wait(WRITE_SECONDS)
            self._is_due.clear()
            self._write(is_last=False)
        self._write(is_last=True)
        if self._waiting_rows:
            self._count_lost(self._waiting_rows)
            log_event("answers_lost", steps=self._waiting_rows, reason=self._last_error)

    def _write(self, *, is_last: bool) -> None:
        """Write everything that waits; what cannot be written waits further."""
        try:
            self._collect()
            with use_records():
                for day in self._unwritten["answered_at"].dt.date().unique().sort():
                    self._write_day(day)
                self._writer.merge(is_last=is_last)
        except FlowsheetError as error:
            self._report(error.what)
        except BaseException as error:  # a panic in compiled code is no Exception
            self._report(f"{type(error).__name__}: {first_line(error)}")
        else:
            self._last_error = None

    def _collect(self) -> None:
        """Make rows of the batches that wait, which they do until all rows are there."""
        batches = list(self._waiting)
        parts = [_try_rows(batch) for batch in batches]
        rows = pl.concat([self._unwritten, *(part for part in parts if part is not None)])
        waiting = self._unwritten.height + sum(batch.predictions.height for batch in batches)
        with self._lock:
            del self._waiting[: len(batches)]
            self._waiting_rows -= waiting - rows.height
        self._count_lost(waiting - rows.height)
        self._unwritten = rows

    def _write_day(self, day: date) -> None:
        is_of_day = pl.col("answered_at").dt.date() == day
        kept = drop_erased(self._unwritten.filter(is_of_day))
        if kept.height:
            self._writer.write(day, kept)
        remaining = self._unwritten.filter(~is_of_day)
        with self._lock:
            self._waiting_rows -= self._unwritten.height - remaining.height
        self._unwritten = remaining
        self._metrics.answers.labels("kept").inc(kept.height)

    def _count_lost(self, steps: int) -> None:
        self._metrics.answers.labels("lost").inc(steps)

    def _report(self, reason: str) -> None:
        self._metrics.answer_errors.inc()
        if reason != self._last_error:
            log_event("answers_not_written", reason=reason)
        self._last_error = reason


def _try_rows(batch: _Batch) -> pl.DataFrame | None:
    """The answers of a batch; None, with a line in the log, if no rows can be made of it.

    Raises:
        OSError: the machine has no room for them now.
        MemoryError: likewise.
    """
    try:
        return _to_rows(batch)
    except (OSError, MemoryError):
        raise
    except BaseException as error:  # a panic in compiled code is no Exception
        steps = batch.predictions.height
        log_event("answers_lost", steps=steps, reason=type(error).__name__)  # may quote a record
        return None


def _to_rows(batch: _Batch) -> pl.DataFrame:
    """The answers of a batch, with the columns ``ANSWERS``.

    Requests that were scored together are a microsecond apart, in the order in which they came: a
    client may give several the same id.
    """
    number = batch.predictions["stay_id"].to_numpy()
    requests = np.repeat(np.arange(len(batch.stay_ids)), [len(ids) for ids in batch.stay_ids])
    request = requests[number]
    alert = find_alerts(batch.model, batch.predictions["risk"].to_numpy())
    subjects = batch.subject_ids
    return batch.predictions.select(
        (pl.lit(batch.scored_at) + pl.Series(request).cast(pl.Duration("us"))).alias("answered_at"),
        pl.Series("request_id", batch.request_ids, pl.String)[request],
        pl.lit(batch.model.name).alias("model"),
        pl.lit(batch.model.version).alias("version"),
        pl.lit(batch.is_shadow).alias("is_shadow"),
        _of_stays(batch.stay_ids)[number].alias("stay_id"),
        pl.lit(None).alias("subject_id")
        if subjects is None
        else _of_stays(subjects)[number].alias("subject_id"),
        "time",
        "step",
        "risk",
        pl.lit(None).alias("alert") if alert is None else pl.Series("alert", alert),
        pl.lit(batch.model.model_package.threshold).alias("threshold"),
    ).cast(ANSWERS)  # type: ignore[arg-type]


def _of_stays(ids: Iterable[Iterable[int | None]]) -> pl.Series:
    """The ids of all requests' stays, in the order of the batch's numbers."""
    return pl.Series(list(chain.from_iterable(ids)), dtype=pl.Int64)


def drop_erased(rows: pl.DataFrame) -> pl.DataFrame:
    """The answers without subjects that were erased from the state folder, and their stays."""
    erased = ErasedIds.load()
    subjects = erased.find("subject", rows["subject_id"].drop_nulls().unique().to_list())
    stays = erased.find("stay", rows["stay_id"].unique().to_list())
    if not subjects and not stays:
        return rows
    of_subject = pl.col("subject_id").is_in(sorted(subjects))
    of_stay = pl.col("subject_id").is_null() & pl.col("stay_id").is_in(sorted(stays))
    return rows.filter(~(of_subject.fill_null(value=False) | of_stay))
