"""Worker processes that fail say so."""

from __future__ import annotations

import functools
import sys

import pytest

import flows.runners
from flows.runners import Processes
from flowsheet.errors import FlowsheetError, Unreachable


@pytest.fixture
def gone(monkeypatch):
    """A Prefect server that does not answer, and nobody who would wait for it."""
    monkeypatch.setenv("PREFECT_API_URL", "http://ada:hush@127.0.0.1:1/api")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")


def test_a_worker_process_in_which_prefect_gives_up_is_an_error(gone):
    with Processes(max_workers=1) as runner:
        given_up = runner._executor.submit(functools.partial(sys.exit, 1))
        with pytest.raises(Unreachable, match="the Prefect server does not answer") as caught:
            given_up.result(timeout=120)
        assert caught.value.where == "http://***@127.0.0.1:1/api"
        assert runner._executor.submit(functools.partial(int, "7")).result(timeout=120) == 7


def test_the_reason_is_told_where_the_server_answers(monkeypatch):
    monkeypatch.setattr(flows.runners, "wait_for_prefect", lambda: None)
    monkeypatch.setattr(flows.runners, "prefect_unreachable", lambda: None)
    with pytest.raises(FlowsheetError, match="with code 3"):
        flows.runners._answered(functools.partial(sys.exit, 3))
    assert flows.runners._answered(lambda: b"result") == b"result"
