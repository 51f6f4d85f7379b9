"""Answers requests for explanations: the contributions behind the risks of some stays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import polars as pl

from flowsheet.errors import CheckFailed
from flowsheet.prediction.errors import RequestRejected
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.request_batch import RequestBatch
from flowsheet.prediction.request_parser import parse_requests
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import Answer, Reply
from flowsheet.windows.grid import Grid

LOG = logging.getLogger("flowsheet.serving")
DEFAULT_TOP = 5
MAX_TOP = 100

_PREDICTION = ("step", "time", "risk", "log_odds", "baseline")
_CONTRIBUTION = ("concept", "kind", "label", "contribution", "value", "unit", "hours_ago", "text")


@dataclass(frozen=True)
class ExplainRequest:
    """A body, and what is to be explained of it."""

    body: bytes
    steps: Literal["last", "all"] = "last"
    top: int = DEFAULT_TOP
    """Contributions of each step that are listed."""

    def __len__(self) -> int:
        """The length of the body."""
        return len(self.body)

    @classmethod
    def parse(cls, body: bytes, query: Mapping[str, str]) -> ExplainRequest:
        """The request with the choices of a query string.

        Raises:
            RequestRejected: 422, a choice does not exist or has no such value.
        """
        unknown = sorted(set(query) - {"steps", "top"})
        if unknown:
            raise _invalid_query(f"there is no parameter {unknown[0]!r}: use steps and top")
        steps, top = query.get("steps", "last"), query.get("top", str(DEFAULT_TOP))
        if steps not in {"last", "all"}:
            raise _invalid_query("steps is last or all")
        if not (top.isascii() and top.isdecimal() and 1 <= int(top[:9]) <= MAX_TOP):
            raise _invalid_query(f"top is a whole number from 1 to {MAX_TOP}")
        return cls(body, "all" if steps == "all" else "last", int(top))


def _invalid_query(message: str) -> RequestRejected:
    return RequestRejected(422, "invalid_query", message)


class Explainer:
    """Explains with the current model, one request after another."""

    def __init__(self, current_model: Callable[[], LoadedModel], limits: Limits) -> None:
        """``current_model`` is called once a request."""
        self._current_model = current_model
        self._limits = limits

    def explain(self, requests: Sequence[ExplainRequest]) -> list[Reply]:
        """The reply to each request."""
        return [self._explain_one(request) for request in requests]

    def _explain_one(self, request: ExplainRequest) -> Reply:
        try:
            return self._answer(self._current_model(), request)
        except RequestRejected as rejection:
            return rejection
        except CheckFailed as error:  # the model cannot be explained
            return RequestRejected(501, "not_explainable", str(error))
        except BaseException as error:  # a panic in compiled code is no Exception
            LOG.error("explaining failed: %s", type(error).__name__)
            message = "the request could not be explained; the server's log has details"
            return RequestRejected(500, "internal", message)

    def _answer(self, model: LoadedModel, request: ExplainRequest) -> Reply:
        package = model.model_package
        task = package.task
        batch, rejected = parse_requests(
            [request.body], self._limits, task.step_hours, task.response
        )
        if batch is None:
            return rejected[0]
        self._check_size(batch, model, request)
        explanations = package.explain(batch.tables, request.steps, request.top)
        version = {"name": model.name, "version": model.version, "alias": model.alias}
        stays = _group_by_stay(explanations, batch)
        steps = sum(len(stay["explanations"]) for stay in stays)
        body = orjson.dumps({"model": version, "stays": stays})
        return Answer(body, batch.row_counts[0], len(stays), steps, model.version)

    def _check_size(self, batch: RequestBatch, model: LoadedModel, request: ExplainRequest) -> None:
        steps = batch.stays
        if request.steps == "all":
            steps = Grid.from_stays(batch.tables.stays, model.model_package.task).rows
        most = self._limits.explained_steps
        if steps > most:
            message = f"{steps:,} steps to explain, at most {most:,} a request: send fewer stays"
            raise RequestRejected(413, "too_many_explanations", message)


def _group_by_stay(explanations: pl.DataFrame, batch: RequestBatch) -> list[dict[str, Any]]:
    """For each stay of the batch its explained steps, in the order sent."""
    stays: list[dict[str, Any]] = [
        {"stay_id": stay_id, "explanations": []} for stay_id in batch.stay_ids[0]
    ]
    for row in explanations.iter_rows(named=True):
        of_stay = stays[row["stay_id"]]["explanations"]
        if row["rank"] == 1:
            prediction = {name: row[name] for name in _PREDICTION}
            rest = row["log_odds"] - row["baseline"]
            of_stay.append({**prediction, "contributions": [], "others": rest})
        of_stay[-1]["contributions"].append({name: row[name] for name in _CONTRIBUTION})
        of_stay[-1]["others"] -= row["contribution"]
    return stays
