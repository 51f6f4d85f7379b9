from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowsheet.lifecycle.runtime.tuning import keep_freed_memory, use_one_polars_thread

ROOT = Path(__file__).resolve().parents[3]
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


@pytest.mark.parametrize("module", ["flowsheet.cli", "flows.ingest"])
def test_polars_and_arrow_are_imported_only_after_they_are_configured(module):
    script = f"import sys, {module}; sys.exit(bool({{'polars', 'pyarrow'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == 0
