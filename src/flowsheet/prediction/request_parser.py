"""The bodies of many requests as one batch of tables; the single entry of the server."""

from __future__ import annotations

from collections.abc import Sequence

from flowsheet.prediction.arrow_parser import parse_batch
from flowsheet.prediction.errors import RequestRejected
from flowsheet.prediction.json_parser import parse_json
from flowsheet.prediction.limits import Limits
from flowsheet.prediction.parsed_request import ParsedRequest
from flowsheet.prediction.request_batch import RequestBatch, combine_requests


def parse_requests(
    bodies: Sequence[bytes], limits: Limits, step_hours: float, response: str | None = None
) -> tuple[RequestBatch | None, dict[int, RequestRejected]]:
    """Parse bodies and combine those that are right.

    The usual bodies are parsed in one pass. If any of them is unusual or wrong, they are parsed
    one by one, with the same result.

    Args:
        bodies: JSON bodies, at least one.
        limits: how much one request may ask for.
        step_hours: length of the model's step, in hours.
        response: that the model predicts, besides the registered ones.

    Returns:
        The batch of the bodies that are right, in their order (None if there are none), and
        {position of a wrong body: its rejection}.
    """
    batch = parse_batch(bodies, limits, step_hours, response)
    if batch is not None:
        return batch, {}
    return _parse_one_by_one(bodies, limits, step_hours, response)


def _parse_one_by_one(
    bodies: Sequence[bytes], limits: Limits, step_hours: float, response: str | None
) -> tuple[RequestBatch | None, dict[int, RequestRejected]]:
    """Each body on its own.

    Args:
        bodies: JSON bodies.
        limits: how much one request may ask for.
        step_hours: length of the model's step, in hours.
        response: that the model predicts, besides the registered ones.
    """
    rejected: dict[int, RequestRejected] = {}
    requests: dict[int, ParsedRequest] = {}
    for position, body in enumerate(bodies):
        try:
            requests[position] = parse_json(body, limits)
        except RequestRejected as rejection:
            rejected[position] = rejection
    while requests:
        positions = list(requests)
        batch, failed = combine_requests(list(requests.values()), limits, step_hours, response)
        if batch is not None:
            return batch, rejected
        for i in failed:
            rejected[positions[i]] = failed[i]
            del requests[positions[i]]
    return None, rejected
