"""The challenger scores what the champion has answered, aside and unseen.

A batch that was answered may be looked at again on a thread of low priority that works a quarter of
the time at most; a batch that finds the queue full is dropped and counted. Both risks of every step
go to Parquet files below ``FLOWSHEET_HOME/serving/shadow/<model>/``, a new one every so often.
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

from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import Loaded
from flowsheet.serving.scorer import Scored
from flowsheet.serving.structured_logging import journal

LOGGED: dict[str, pl.DataType] = {
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

_WAITING = 4
_REST = 3.0
"""Rest after a batch, in multiples of the time that it took."""
_FILE_STEPS = 100_000
_FILE_SECONDS = 60.0


class Shadow:
    """Compares ``challenger()`` with what was answered."""

    def __init__(
        self, challenger: Callable[[], Loaded | None], folder: Path, metrics: Metrics
    ) -> None:
        self._challenger, self._folder, self._metrics = challenger, folder, metrics
        self._queue: queue.Queue[Scored] = queue.Queue(_WAITING)
        self._stopped = threading.Event()
        self._pages: list[pl.DataFrame] = []
        self._steps, self._since = 0, monotonic()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Write what was scored, and end; what waits is dropped."""
        self._stopped.set()
        self._thread.join(seconds)

    def offer(self, scored: Scored) -> None:
        """Hand in a batch that was answered; never waits."""
        try:
            self._queue.put_nowait(scored)
        except queue.Full:
            self._metrics.shadow.labels("dropped").inc()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(
                os.PRIO_PROCESS, threading.get_native_id(), 15
            )  # Linux: of this thread alone
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Empty):
                begin = monotonic()
                self._look(self._queue.get(timeout=0.5))
                self._stopped.wait(_REST * (monotonic() - begin))
            if self._steps and (
                self._steps >= _FILE_STEPS or monotonic() - self._since > _FILE_SECONDS
            ):
                self._write()
        self._write()

    def _look(self, scored: Scored) -> None:
        challenger = self._challenger()
        if challenger is None or challenger.version == scored.model.version:
            self._metrics.shadow.labels("no_challenger").inc()
            return
        try:
            page = compare(scored, challenger)
        except BaseException as error:  # a panic in compiled code is no Exception
            self._metrics.shadow.labels("failed").inc()
            journal(
                "shadow_failed", version=challenger.version, reason=str(error).split("\n", 1)[0]
            )
            return
        self._metrics.shadow.labels("scored").inc()
        self._metrics.shadow_steps.inc(page.height)
        for difference in (
            (page["champion_risk"] - page["challenger_risk"]).abs().drop_nulls().to_list()
        ):
            self._metrics.difference.observe(difference)
        self._pages.append(page)
        self._steps += page.height

    def _write(self) -> None:
        """One more file, complete or absent."""
        if self._pages:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.parquet"
            part = self._folder / f".{name}.part"
            try:
                pl.concat(self._pages).write_parquet(part)
                part.rename(self._folder / name)
            except OSError as error:
                journal("shadow_not_written", reason=error.strerror or str(error))
        self._pages, self._steps, self._since = [], 0, monotonic()


def compare(scored: Scored, challenger: Loaded) -> pl.DataFrame:
    """Both risks at every time at which the challenger predicts; columns as in ``LOGGED``."""
    theirs = challenger.model_package.predict(scored.batch.tables)
    ours = scored.predictions.select("stay_id", "time", champion_risk="risk")
    both = theirs.join(ours, on=["stay_id", "time"], how="left", maintain_order="left")
    return both.select(
        pl.lit(datetime.now(UTC)).dt.cast_time_unit("us").alias("scored_at"),
        pl.Series("stay_id", scored.batch.original()[both["stay_id"].to_numpy()]),
        "time",
        "step",
        pl.lit(scored.model.version, pl.Int32).alias("champion_version"),
        "champion_risk",
        pl.lit(challenger.version, pl.Int32).alias("challenger_version"),
        challenger_risk="risk",
    ).cast(LOGGED)  # type: ignore[arg-type]
