"""Scores many requests together: one pass through the windows and the model for a whole batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import orjson
import polars as pl

from flowsheet.prediction.errors import RequestRejected
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_batch import RequestBatch
from flowsheet.prediction.request_parser import parse_requests
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.typing import Bools, Floats

LOG = logging.getLogger("flowsheet.serving")


@dataclass(frozen=True)
class Answer:
    """The answer to a request that was scored."""

    body: bytes
    rows: int
    stays: int
    steps: int
    version: int
    """The model version that scored it."""


Reply = Answer | RequestRejected


@dataclass(frozen=True)
class PredictRequest:
    """A body and the id of its request."""

    body: bytes
    request_id: str = ""

    def __len__(self) -> int:
        """The length of the body."""
        return len(self.body)


@dataclass(frozen=True)
class ScoredBatch:
    """Requests that were scored together; what an observer of the scorer gets."""

    model: LoadedModel
    batch: RequestBatch
    predictions: pl.DataFrame
    request_ids: Sequence[str]
    """Of the batch's requests, in their order."""
    scored_at: datetime


def find_alerts(model: LoadedModel, risk: Floats) -> Bools | None:
    """Which of the risks reach the threshold, shape of ``risk``; None: the model has none."""
    threshold = model.model_package.threshold
    return None if threshold is None else np.asarray(risk >= threshold)


class Scorer:
    """Answers request bodies with the current model."""

    def __init__(
        self,
        current_model: Callable[[], LoadedModel],
        limits: Limits,
        on_scored: Callable[[ScoredBatch], None] = lambda scored: None,
    ) -> None:
        """``current_model`` is called once a batch, ``on_scored`` after each batch."""
        self._current_model = current_model
        self._limits = limits
        self._on_scored = on_scored

    def score(self, bodies: Sequence[bytes]) -> list[Reply]:
        """The reply to each body; a request that fails does not affect the others."""
        return self.score_requests([PredictRequest(body) for body in bodies])

    def score_requests(self, requests: Sequence[PredictRequest]) -> list[Reply]:
        """The reply to each request; one that fails does not affect the others."""
        try:
            return self._score_together(self._current_model(), requests)
        except BaseException as error:  # a panic in compiled code is no Exception
            if len(requests) > 1:
                return [self.score_requests([request])[0] for request in requests]
            LOG.error("scoring failed: %s", type(error).__name__)
            message = "the request could not be scored; the server's log has details"
            return [RequestRejected(500, "internal", message)]

    def _score_together(
        self, model: LoadedModel, requests: Sequence[PredictRequest]
    ) -> list[Reply]:
        task = model.model_package.task
        bodies = [request.body for request in requests]
        batch, rejected = parse_requests(bodies, self._limits, task.step_hours, task.response)
        accepted = [r.request_id for i, r in enumerate(requests) if i not in rejected]
        answers = iter(self._answer(model, batch, accepted) if batch else [])
        return [
            rejected[position] if position in rejected else next(answers)
            for position in range(len(bodies))
        ]

    def _answer(
        self, model: LoadedModel, batch: RequestBatch, request_ids: Sequence[str]
    ) -> list[Answer]:
        predictions = model.model_package.predict(batch.tables)
        stay = predictions["stay_id"].to_numpy()
        time = predictions["time"].to_numpy()
        step = predictions["step"].to_numpy()
        risk = predictions["risk"].to_numpy()
        if not np.isfinite(risk).all():
            raise ArithmeticError("a risk is not finite")
        # Predictions are sorted by stay: those of stay i are bounds[i] to bounds[i + 1].
        bounds = np.searchsorted(stay, np.arange(batch.stays + 1)).tolist()
        version = {"name": model.name, "version": model.version, "alias": model.alias}
        threshold = model.model_package.threshold
        alert = find_alerts(model, risk)
        raised = model.model_package.raise_alerts(predictions)
        answers = []
        for rows, first, stay_ids in zip(
            batch.row_counts, batch.first_stays, batch.stay_ids, strict=True
        ):
            stays = []
            for i, stay_id in enumerate(stay_ids, first):
                of_stay = slice(bounds[i], bounds[i + 1])
                series = {"step": step[of_stay], "time": time[of_stay], "risk": risk[of_stay]}
                if alert is not None:
                    series["alert"] = alert[of_stay]
                if raised is not None:
                    series["raised"] = raised[of_stay]
                stays.append({"stay_id": stay_id, **series})
            answer = {"model": version, "threshold": threshold, "stays": stays}
            body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
            steps = bounds[first + len(stay_ids)] - bounds[first]
            answers.append(Answer(body, rows, len(stay_ids), steps, model.version))
        self._on_scored(ScoredBatch(model, batch, predictions, request_ids, datetime.now(UTC)))
        return answers
