"""The server's pages: predictions, health, versions, metrics and the format of a request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from flowsheet import __version__
from flowsheet.own_origin import OwnOriginOnly
from flowsheet.prediction.errors import RequestRejected
from flowsheet.prediction.limits import Limits
from flowsheet.serving.access_log import REQUEST, AccessLog, RequestRecord
from flowsheet.serving.authentication import CLIENT, TokenAuthentication
from flowsheet.serving.batcher import Batcher, R
from flowsheet.serving.explainer import Explainer, ExplainRequest
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.middleware import REJECTION, MetricsMiddleware
from flowsheet.serving.openapi import (
    ANSWER,
    EXPLAIN_PARAMETERS,
    EXPLANATION,
    REJECTED,
    docs_page,
)
from flowsheet.serving.openapi import REQUEST as REQUEST_SCHEMA
from flowsheet.serving.scorer import Answer, PredictRequest, Reply, Scorer
from flowsheet.serving.service import Service
from flowsheet.serving.tokens import TokenFile

_JSON = "application/json"


def make_app(service: Service) -> FastAPI:
    """The application around a service whose champion is loaded."""
    metrics, config = service.metrics, service.config
    scorer = Scorer(service.current_champion, config.limits, service.observe)
    batcher = Batcher(
        scorer.score_requests, config.batch_size, config.queue_size, metrics.batch_size.observe
    )
    explainer = Explainer(service.current_champion, config.limits)
    explain_queue = Batcher(explainer.explain, 1, config.queue_size, max_block_seconds=0.0)
    metrics.waiting.set_function(lambda: len(batcher) + len(explain_queue))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        explain_queue.start()
        service.start()
        yield
        await asyncio.gather(
            batcher.close(config.drain_seconds), explain_queue.close(config.drain_seconds)
        )
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Flowsheet",
        version=__version__,
        description=f"Risks by {config.name}@{config.alias}.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the request's Host
        lifespan=lifespan,
    )
    # The last one added is the first that a request meets.
    if config.token_file:
        app.add_middleware(TokenAuthentication, tokens=TokenFile(config.token_file))
    app.add_middleware(OwnOriginOnly, hosts=(config.host, *config.allowed_hosts))
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(AccessLog)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestRejected, _answer_rejection)

    @app.post(
        "/predict",
        openapi_extra=REQUEST_SCHEMA,
        responses={200: ANSWER, **dict.fromkeys((400, 413, 415, 422), REJECTED)},
    )
    async def predict(request: Request) -> Response:
        """A risk for every step of every stay that is sent."""
        body = await _read_and_record(request, config.limits)
        record: RequestRecord = request.scope[REQUEST]
        start = perf_counter()
        asked = PredictRequest(body, record.request_id)
        reply = await _await_reply(batcher, asked, config.limits.answer_seconds)
        if isinstance(reply, RequestRejected):
            raise reply
        _record_answer(request, reply)
        _count_answer(metrics, reply, perf_counter() - start)
        return Response(reply.body, media_type=_JSON)

    @app.post(
        "/explain",
        openapi_extra={**REQUEST_SCHEMA, "parameters": EXPLAIN_PARAMETERS},
        responses={200: EXPLANATION, **dict.fromkeys((400, 413, 415, 422), REJECTED)},
    )
    async def explain(request: Request) -> Response:
        """Why the risks are what they are: what adds the most to the log odds."""
        body = await _read_and_record(request, config.limits)
        asked = ExplainRequest.parse(body, request.query_params)
        start = perf_counter()
        reply = await _await_reply(explain_queue, asked, config.limits.answer_seconds)
        if isinstance(reply, RequestRejected):
            raise reply
        _record_answer(request, reply)
        metrics.explain_seconds.observe(perf_counter() - start)
        metrics.explained.inc(reply.steps)
        return Response(reply.body, media_type=_JSON)

    _add_status_pages(app, service, batcher)
    return app


def _add_status_pages(app: FastAPI, service: Service, batcher: Batcher[PredictRequest]) -> None:
    """The pages that ask nothing of the model."""

    @app.get("/health")
    async def health(request: Request) -> Response:
        """Whether the server runs, and whether its model is the one that the alias points at."""
        state = service.health()
        is_stranger = service.config.token_file and request.scope.get(CLIENT) is None
        return _json({"status": state["status"]} if is_stranger else state)

    @app.get("/ready")
    async def ready() -> Response:
        """200 if a request would be accepted now, else 503."""
        is_ready = batcher.is_ready
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/version")
    async def version() -> Response:
        """The release and the versions of the models."""
        return _json(service.version())

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        models = service.version()["models"]
        served = " and ".join(f"{model['name']}/{model['version']}" for model in models)
        return HTMLResponse(docs_page(served))


def _count_answer(metrics: Metrics, answer: Answer, seconds: float) -> None:
    metrics.seconds.observe(seconds)
    metrics.rows.inc(answer.rows)
    metrics.stays.inc(answer.stays)
    metrics.steps.inc(answer.steps)


async def _await_reply(batcher: Batcher[R], request: R, seconds: float) -> Reply:
    try:
        return await asyncio.wait_for(batcher.submit(request), seconds)
    except TimeoutError:
        message = f"no answer within {seconds:g} s; send less or try again"
        raise RequestRejected(503, "timeout", message) from None


async def _read_and_record(request: Request, limits: Limits) -> bytes:
    """The body, whose digest the log keeps.

    Raises:
        RequestRejected: 400, 408, 413 or 415.
    """
    body = await _read_body(request, limits.body_bytes, limits.body_seconds)
    record: RequestRecord = request.scope[REQUEST]
    record.body_sha256 = hashlib.sha256(body).hexdigest()
    return body


def _record_answer(request: Request, answer: Answer) -> None:
    record: RequestRecord = request.scope[REQUEST]
    record.version, record.stays = answer.version, answer.stays


async def _read_body(request: Request, max_bytes: int, max_seconds: float) -> bytes:
    """The whole body, if it is JSON, not compressed, not too large and not too slow.

    Raises:
        RequestRejected: 400, 408, 413 or 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON:
        raise RequestRejected(415, "content_type", f"send content-type: {_JSON}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRejected(415, "content_encoding", "send the body uncompressed")
    too_large = RequestRejected(
        413,
        "too_large",
        f"the body may have {max_bytes} bytes at most: send several requests",
    )
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    parts = []
    size = 0
    try:
        async with asyncio.timeout(max_seconds):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        message = f"the body did not arrive within {max_seconds:g} s"
        raise RequestRejected(408, "slow_body", message) from None
    except ClientDisconnect:
        raise RequestRejected(400, "disconnected", "the client disconnected") from None
    return b"".join(parts)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type=_JSON)


async def _answer_rejection(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRejected)
    request.scope[REJECTION] = error.kind
    headers = {"retry-after": "1"} if error.status == 503 else None
    return Response(error.body, error.status, headers, media_type=_JSON)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kinds = {404: "unknown_path", 405: "wrong_method"}
    messages = {
        404: "there is no such page; see /docs",
        405: "the page does not answer that method; see /docs",
    }
    rejection = RequestRejected(
        error.status_code,
        kinds.get(error.status_code, "http"),
        messages.get(error.status_code, error.detail),
    )
    answer = await _answer_rejection(request, rejection)
    answer.headers.update(error.headers or {})
    return answer
