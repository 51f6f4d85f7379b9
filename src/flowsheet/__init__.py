"""Flowsheet: an experiment platform for patient time series.

``import flowsheet as fs`` offers the names of ``flowsheet.api``; they are imported when they are
first used, so that the command line starts quickly.
"""

from __future__ import annotations

import importlib

try:
    from flowsheet._version import __version__  # written by the build, from the git tag
except ImportError:
    __version__ = "0.0.0+unknown"

_API = (
    "Evaluation",
    "Extract",
    "Model",
    "Parts",
    "Run",
    "Stay",
    "Windows",
    "cohort",
    "evaluate",
    "experiment",
    "ingest",
    "load",
    "model",
    "open_run",
    "plot",
    "run",
    "schemas",
    "split",
    "windows",
)


def __getattr__(name: str) -> object:
    """A name of the API."""
    if name in _API:
        return getattr(importlib.import_module("flowsheet.api"), name)
    raise AttributeError(f"module 'flowsheet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
