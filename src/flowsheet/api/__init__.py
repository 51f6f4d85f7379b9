"""What ``import flowsheet as fs`` offers: stable, typed and documented names."""

from __future__ import annotations

from flowsheet.api import plot
from flowsheet.api._evaluation import Evaluation, evaluate
from flowsheet.api._extract import Extract, Stay, cohort, ingest
from flowsheet.api._model import Model, load, model
from flowsheet.api._run import Run, experiment, open_run, run
from flowsheet.api._windows import Parts, Windows, split, windows
from flowsheet.cohort import schemas

__all__ = [
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
]
