from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flowsheet.lifecycle.runtime.tuning import keep_freed_memory, use_one_polars_thread

VARIABLES = ("_RJEM_MALLOC_CONF", "MIMALLOC_PURGE_DELAY", "POLARS_MAX_THREADS")


@pytest.fixture(autouse=True)
def _restored_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_both_allocators_are_set_to_keep_freed_memory():
    keep_freed_memory()
    assert "dirty_decay_ms:-1" in os.environ["_RJEM_MALLOC_CONF"]
    assert os.environ["MIMALLOC_PURGE_DELAY"] == "-1"
    assert "POLARS_MAX_THREADS" not in os.environ


def test_polars_is_set_to_one_thread():
    use_one_polars_thread()
    assert os.environ["POLARS_MAX_THREADS"] == "1"


def test_a_users_setting_is_kept(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "the user's")
    keep_freed_memory()
    use_one_polars_thread()
    assert {os.environ[name] for name in VARIABLES} == {"the user's"}


def test_the_command_line_imports_neither_polars_nor_arrow_before_a_command_runs():
    script = (
        "import sys, flowsheet.cli, flowsheet.lifecycle.runtime.tuning;"
        "sys.exit(bool({'polars', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
