"""Connections that wait for a request are limited in time and in number.

uvicorn limits neither: a client that never completes its headers keeps its connection, and with
enough of them nobody else is answered.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_TIMEOUT_ANSWER = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_OPEN_FILES = 8_192


def make_protocol(header_seconds: float, max_waiting: int) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with limits on connections without a complete request.

    Args:
        header_seconds: from a request's first byte (or the connection's start) to the end of its
            headers; then the connection is closed.
        max_waiting: connections that may wait for a request, keep-alive ones included; of more
            than these the oldest are closed.
    """
    waiting: dict[LimitedProtocol, None] = {}

    class LimitedProtocol(H11Protocol):
        """One connection; a key of ``waiting`` while it has no request under way."""

        _header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()
            self._start_timer()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_answering():
                self._stop_timer()
                waiting.pop(self, None)
            else:
                self._start_timer()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._is_answering() and not self.transport.is_closing():
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            waiting.pop(self, None)
            super().connection_lost(exc)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            waiting[self] = None
            while len(waiting) > max_waiting:
                oldest = next(iter(waiting))
                del waiting[oldest]
                oldest.transport.abort()

        def _start_timer(self) -> None:
            if self._header_timer is None and not self.transport.is_closing():
                self._header_timer = self.loop.call_later(header_seconds, self._close_late)

        def _stop_timer(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _close_late(self) -> None:
            self._header_timer = None
            if not self._is_answering() and not self.transport.is_closing():
                self.transport.write(_TIMEOUT_ANSWER)
                self.transport.close()

    return LimitedProtocol


def raise_open_files_limit() -> None:
    """Allow the process as many connections as the system does, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted: Any = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
