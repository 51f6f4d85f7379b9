"""The pages of the server: predictions, health, versions, metrics and what a request looks like."""

from __future__ import annotations

import asyncio
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
from flowsheet.prediction.errors import Refused
from flowsheet.serving.batcher import Batcher
from flowsheet.serving.middleware import Doorman
from flowsheet.serving.openapi import (
    ANSWER,
    PAGE,
    REFUSAL,
    REQUEST,
)
from flowsheet.serving.scorer import Outcome, Scorer
from flowsheet.serving.service import Service

_JSON = "application/json"


def make_app(service: Service) -> FastAPI:
    """The application around a service whose champion is loaded."""
    metrics, config = service.metrics, service.config
    batcher = Batcher(
        Scorer(service.champion_now, config.limits, service.look_on).score,
        config.batch,
        config.waiting,
        taken=metrics.together.observe,
    )
    metrics.waiting.set_function(lambda: len(batcher))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        service.start()
        yield
        await batcher.close(config.drain_seconds)
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Flowsheet", version=__version__, description=f"Risks by {config.name}@{config.alias}.",
        docs_url=None, redoc_url=None, lifespan=lifespan,
    )  # fmt: skip
    app.add_middleware(Doorman, metrics=metrics)
    app.add_exception_handler(HTTPException, _no_such_page)
    app.add_exception_handler(Refused, _refusal)

    @app.post(
        "/predict",
        openapi_extra=REQUEST,
        responses={200: ANSWER, **dict.fromkeys((400, 413, 415, 422), REFUSAL)},
    )
    async def predict(request: Request) -> Response:
        """A risk for every step of every stay that is sent."""
        body = await _body(request, config.limits.body_bytes, config.limits.body_seconds)
        begin = perf_counter()
        outcome = await _answer(batcher, body, config.limits.answer_seconds)
        if isinstance(outcome, Refused):
            raise outcome
        metrics.seconds.observe(perf_counter() - begin)
        metrics.rows.inc(outcome.rows)
        metrics.stays.inc(outcome.stays)
        metrics.steps.inc(outcome.steps)
        return Response(outcome.body, media_type=_JSON)

    @app.get("/health")
    async def health() -> Response:
        """Whether the server lives, and whether its model is the one that the registry names."""
        return _json(service.health())

    @app.get("/ready")
    async def ready() -> Response:
        """200 when a request would be taken now, 503 otherwise."""
        free = batcher.free
        return _json({"ready": free}, 200 if free else 503)

    @app.get("/version")
    async def version() -> Response:
        """The release and the versions of the models."""
        return _json(service.version())

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE)

    return app


async def _answer(batcher: Batcher, body: bytes, seconds: float) -> Outcome:
    try:
        return await asyncio.wait_for(batcher.submit(body), seconds)
    except TimeoutError:
        raise Refused(
            503, "timeout", f"no answer within {seconds:g} s; send less or try again"
        ) from None


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """The whole body, as long as it is JSON, not compressed, not too large and not too slow.

    Raises:
        Refused: 408, 413 or 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON:
        raise Refused(415, "content_type", f"send content-type: {_JSON}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "content_encoding", "send the body uncompressed")
    too_large = Refused(
        413, "too_large", f"the body may hold {most} bytes at most: send several requests"
    )
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise Refused(408, "slow_body", f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "disconnected", "the client went away") from None
    return b"".join(parts)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type=_JSON)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    request.scope["flowsheet.refused"] = error.kind
    headers = {"retry-after": "1"} if error.status == 503 else None
    return Response(error.body, error.status, headers, media_type=_JSON)


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kinds = {404: "unknown_path", 405: "wrong_method"}
    told = {
        404: "there is no such page; see /docs",
        405: "the page does not answer that method; see /docs",
    }
    refused = Refused(
        error.status_code,
        kinds.get(error.status_code, "http"),
        told.get(error.status_code, error.detail),
    )
    answer = await _refusal(request, refused)
    answer.headers.update(error.headers or {})
    return answer
