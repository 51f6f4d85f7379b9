"""A batch of bodies to as many answers: one pass through the windows and the model for all that wait together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import polars as pl

from flowsheet.prediction.arrow_parser import at_once
from flowsheet.prediction.errors import Refused
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_batch import Batch, combine
from flowsheet.prediction.request_parser import Asked, read
from flowsheet.serving.model_slot import Loaded

LOG = logging.getLogger("flowsheet.serving")


@dataclass(frozen=True)
class Answer:
    """A request that was scored."""

    body: bytes
    rows: int
    stays: int
    steps: int


Outcome = Answer | Refused


@dataclass(frozen=True)
class Scored:
    """What was scored together, for whoever looks on."""

    model: Loaded
    batch: Batch
    predictions: pl.DataFrame


class Scorer:
    """Answers bodies with the model that ``current`` gives; tells ``watch`` what was scored."""

    def __init__(
        self,
        current: Callable[[], Loaded],
        limits: Limits,
        watch: Callable[[Scored], None] = lambda scored: None,
    ) -> None:
        self._current, self._limits, self._watch = current, limits, watch

    def score(self, bodies: Sequence[bytes]) -> list[Outcome]:
        """The answer to each body. What goes wrong with one is no matter of the others."""
        try:
            return self._together(self._current(), bodies)
        except BaseException as error:  # a panic in compiled code is no Exception
            if len(bodies) > 1:
                return [self.score([body])[0] for body in bodies]
            LOG.error("scoring failed: %s", type(error).__name__)
            return [
                Refused(
                    500, "internal", "the request could not be scored; the server's log tells more"
                )
            ]

    def _together(self, model: Loaded, bodies: Sequence[bytes]) -> list[Outcome]:
        batch = at_once(bodies, self._limits, model.model_package.task.step_hours)
        if batch is not None:
            return [*self._answers(model, batch)]
        return self._one_by_one(model, bodies)

    def _one_by_one(self, model: Loaded, bodies: Sequence[bytes]) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(bodies)
        asked: dict[int, Asked] = {}
        for i, body in enumerate(bodies):
            try:
                asked[i] = read(body, self._limits)
            except Refused as refused:
                outcomes[i] = refused
        while asked:
            places = list(asked)
            batch, refusals = combine(
                [asked[i] for i in places], self._limits, model.model_package.task.step_hours
            )
            if batch is not None:
                for i, answer in zip(places, self._answers(model, batch), strict=True):
                    outcomes[i] = answer
                break
            for position, refusal in refusals.items():
                outcomes[places[position]] = refusal
                del asked[places[position]]
        return [outcome for outcome in outcomes if outcome is not None]

    def _answers(self, model: Loaded, batch: Batch) -> list[Answer]:
        predictions = model.model_package.predict(batch.tables)
        stay, time, step, risk = (
            predictions[name].to_numpy() for name in ("stay_id", "time", "step", "risk")
        )
        if not np.isfinite(risk).all():
            raise ArithmeticError("a risk is not finite")
        cuts = np.searchsorted(stay, np.arange(batch.stays + 1)).tolist()
        about = {"name": model.name, "version": model.version, "alias": model.alias}
        answers = []
        for rows, first, ids in zip(batch.rows, batch.first, batch.stay_ids, strict=True):
            spans = [slice(cuts[first + i], cuts[first + i + 1]) for i in range(len(ids))]
            told = [
                {"stay_id": stay_id, "step": step[s], "time": time[s], "risk": risk[s]}
                for stay_id, s in zip(ids, spans, strict=True)
            ]
            body = orjson.dumps({"model": about, "stays": told}, option=orjson.OPT_SERIALIZE_NUMPY)
            steps = cuts[first + len(ids)] - cuts[first]
            answers.append(Answer(body, rows, len(ids), steps))
        self._watch(Scored(model, batch, predictions))
        return answers
