"""Shadow scoring: the challenger scores what the champion has answered, unseen by clients.

Batches that were answered are scored again on a thread of low priority, which works a quarter of
the time at most; a batch that finds the queue full is dropped and counted. Both risks of every step
go to Parquet files in ``FLOWSHEET_HOME/serving/shadow/<model>/``, a new file about every minute.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import polars as pl

from flowsheet.errors import FlowsheetError
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import ScoredBatch
from flowsheet.serving.structured_logging import log_event
from flowsheet.state.erasures import ErasedIds, use_records

SHADOW_SCORES: dict[str, pl.DataType] = {
    "scored_at": pl.Datetime("us", "UTC"),
    "stay_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "step": pl.Int32(),
    "champion_version": pl.Int32(),
    "champion_risk": pl.Float64(),  # null: the champion does not predict at that time
    "challenger_version": pl.Int32(),
    "challenger_risk": pl.Float64(),
}
"""Columns of the files."""

_QUEUE_SIZE = 4
_REST_FACTOR = 3.0
"""Rest after a batch, in multiples of the time that it took."""
_FILE_STEPS = 100_000
_FILE_SECONDS = 60.0
_NICENESS = 15


class Shadow:
    """Scores answered batches again with the challenger and records both risks."""

    def __init__(
        self, challenger: Callable[[], LoadedModel | None], folder: Path, metrics: Metrics
    ) -> None:
        """``challenger`` is called once a batch; None if no version is loaded."""
        self._challenger = challenger
        self._folder = folder
        self._metrics = metrics
        self._queue: queue.Queue[ScoredBatch] = queue.Queue(_QUEUE_SIZE)
        self._stopped = threading.Event()
        self._unwritten: list[pl.DataFrame] = []
        self._unwritten_steps = 0
        self._last_write = monotonic()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Write what was scored and stop; batches that wait are dropped."""
        self._stopped.set()
        self._thread.join(seconds)

    def offer(self, scored: ScoredBatch) -> None:
        """Queue a batch that was answered; drop it if the queue is full. Never blocks."""
        try:
            self._queue.put_nowait(scored)
        except queue.Full:
            self._metrics.shadow.labels("dropped").inc()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # on Linux the priority is the thread's alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Empty):
                start = monotonic()
                self._score(self._queue.get(timeout=0.5))
                self._stopped.wait(_REST_FACTOR * (monotonic() - start))
            is_due = monotonic() - self._last_write > _FILE_SECONDS
            if self._unwritten_steps >= _FILE_STEPS or (self._unwritten_steps and is_due):
                self._write()
        self._write()

    def _score(self, scored: ScoredBatch) -> None:
        challenger = self._challenger()
        if challenger is None or challenger.version == scored.model.version:
            self._metrics.shadow.labels("no_challenger").inc()
            return
        try:
            scores = compare_risks(scored, challenger)
        except BaseException as error:  # a panic in compiled code is no Exception
            self._metrics.shadow.labels("failed").inc()
            reason = str(error).split("\n", 1)[0]
            log_event("shadow_failed", version=challenger.version, reason=reason)
            return
        self._metrics.shadow.labels("scored").inc()
        self._metrics.shadow_steps.inc(scores.height)
        differences = (scores["champion_risk"] - scores["challenger_risk"]).abs()
        for difference in differences.drop_nulls().to_list():
            self._metrics.difference.observe(difference)
        self._unwritten.append(scores)
        self._unwritten_steps += scores.height

    def _write(self) -> None:
        """Write one more file, atomically."""
        if self._unwritten:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.parquet"
            part = self._folder / f".{name}.part"
            try:
                with use_records():
                    _drop_erased(pl.concat(self._unwritten)).write_parquet(part)
                    part.rename(self._folder / name)
            except OSError as error:
                log_event("shadow_not_written", reason=error.strerror or str(error))
            except FlowsheetError as error:
                log_event("shadow_not_written", reason=error.what)
        self._unwritten = []
        self._unwritten_steps = 0
        self._last_write = monotonic()


def _drop_erased(scores: pl.DataFrame) -> pl.DataFrame:
    """The scores without stays of subjects that were erased from the state folder."""
    stays = scores["stay_id"].unique().to_list()
    erased = sorted(ErasedIds.load().find("stay", stays))
    return scores.filter(~pl.col("stay_id").is_in(erased)) if erased else scores


def compare_risks(scored: ScoredBatch, challenger: LoadedModel) -> pl.DataFrame:
    """Both risks at every time at which the challenger predicts; columns ``SHADOW_SCORES``."""
    challenger_risks = challenger.model_package.predict(scored.batch.tables)
    champion_risks = scored.predictions.select("stay_id", "time", champion_risk="risk")
    both = challenger_risks.join(
        champion_risks, on=["stay_id", "time"], how="left", maintain_order="left"
    )
    stay_ids = scored.batch.original_stay_ids()[both["stay_id"].to_numpy()]
    return both.select(
        pl.lit(datetime.now(UTC)).dt.cast_time_unit("us").alias("scored_at"),
        pl.Series("stay_id", stay_ids),
        "time",
        "step",
        pl.lit(scored.model.version, pl.Int32).alias("champion_version"),
        "champion_risk",
        pl.lit(challenger.version, pl.Int32).alias("challenger_version"),
        challenger_risk="risk",
    ).cast(SHADOW_SCORES)  # type: ignore[arg-type]
