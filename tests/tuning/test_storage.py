"""Errors of the database show no password."""

from __future__ import annotations

import pytest

from flowsheet.errors import Unreachable, UsageError
from flowsheet.tuning.storage import open_database


def test_no_message_contains_the_password():
    pytest.importorskip("psycopg", reason="flowsheet[postgres] is not installed")
    with pytest.raises(Unreachable) as error:
        open_database("postgresql+psycopg://optuna:hunter22@127.0.0.1:1/optuna")
    assert "hunter22" not in str(error.value)
    assert error.value.__cause__ is None


def test_no_message_contains_a_url_that_is_not_valid():
    with pytest.raises(UsageError) as error:
        open_database("hunter22 is no URL")
    assert "hunter22" not in str(error.value)
