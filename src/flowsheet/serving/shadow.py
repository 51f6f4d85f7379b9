"""Shadow scoring: the challenger scores what the champion has answered, unseen by clients.

Batches that were answered are scored again on a thread of low priority, which works a quarter of
the time at most; a batch that finds the queue full is dropped and counted. The challenger's risks
are kept beside the champion's answers (see ``answer_files``).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

import polars as pl

from flowsheet.errors import first_line
from flowsheet.serving.answer_log import AnswerLog
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import ScoredBatch
from flowsheet.serving.structured_logging import log_event

_QUEUE_SIZE = 4
_REST_FACTOR = 3.0
"""Rest after a batch, in multiples of the time that it took."""
_NICENESS = 15


class Shadow:
    """Scores answered batches again with the challenger and keeps its risks."""

    def __init__(
        self, challenger: Callable[[], LoadedModel | None], answers: AnswerLog, metrics: Metrics
    ) -> None:
        """``challenger`` is called once a batch; None if no version is loaded."""
        self._challenger = challenger
        self._answers = answers
        self._metrics = metrics
        self._queue: queue.Queue[ScoredBatch] = queue.Queue(_QUEUE_SIZE)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Stop; batches that wait are dropped."""
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

    def _score(self, scored: ScoredBatch) -> None:
        challenger = self._challenger()
        if challenger is None or challenger.version == scored.model.version:
            self._metrics.shadow.labels("no_challenger").inc()
            return
        try:
            predictions = challenger.model_package.predict(scored.batch.tables)
        except BaseException as error:  # a panic in compiled code is no Exception
            self._metrics.shadow.labels("failed").inc()
            log_event("shadow_failed", version=challenger.version, reason=first_line(error))
            return
        self._answers.add(
            replace(scored, model=challenger, predictions=predictions), is_shadow=True
        )
        self._metrics.shadow.labels("scored").inc()
        self._metrics.shadow_steps.inc(predictions.height)
        for difference in find_differences(scored.predictions, predictions):
            self._metrics.difference.observe(difference)


def find_differences(champion: pl.DataFrame, challenger: pl.DataFrame) -> list[float]:
    """The absolute differences of both risks at the times at which both predict."""
    keys = ["stay_id", "time"]
    both = challenger.join(champion, on=keys, suffix="_of_champion", maintain_order="left")
    differences = (both["risk"] - both["risk_of_champion"]).abs()
    return differences.to_list()
