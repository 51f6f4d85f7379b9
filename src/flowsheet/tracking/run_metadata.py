"""Metadata of a run: parameters to compare by, code version and software environment."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from flowsheet import __version__
from flowsheet.config import ExperimentConfig

LIBRARIES = (
    "polars",
    "numpy",
    "scikit-learn",
    "lightgbm",
    "torch",
    "optuna",
    "prefect",
    "mlflow",
    "pandera",
)
"""Libraries that results depend on."""
_COMPARED = ("cohort", "task", "features", "tuning", "evaluation")
_MAX_PARAM_LENGTH = 6000
"""Of MLflow."""
_CODE_TAGS = {
    "flowsheet.version": "version",
    "mlflow.source.git.commit": "commit",
    "flowsheet.git.dirty": "changed",
}
"""{tag: short name}."""


def get_experiment_params(config: ExperimentConfig) -> dict[str, str]:
    """An experiment's configuration as flat parameters, such as ``task.horizon``.

    They are columns of MLflow's compare view. ``compute`` is left out, since no result depends on
    it. Longer values are cut: the whole configuration is an artifact.
    """
    compared = config.model_dump(mode="json", include=set(_COMPARED))
    return {"seed": str(config.seed), **flatten(compared)}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names; lists are joined, empty values are left out.

    >>> flatten({"task": {"horizon": 1, "cutoff_hours": None}, "models": ["gru", "lstm"]})
    {'task.horizon': '1', 'models': 'gru, lstm'}
    """
    return dict(_iter_flat(values, prefix))


def _iter_flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _iter_flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            if value:
                yield f"{prefix}{name}", ", ".join(map(str, value))[:_MAX_PARAM_LENGTH]
        elif value is not None and value != "":
            yield f"{prefix}{name}", str(value)[:_MAX_PARAM_LENGTH]


def collect_code_version() -> dict[str, str]:
    """Tags with the package's version and, in a checkout, the git commit."""
    tags = {"flowsheet.version": __version__}
    root = Path(__file__).resolve().parents[3]
    commit = _run_git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit:
        changes = _run_git(root, "status", "--porcelain", "--untracked-files=no")
        tags["mlflow.source.git.commit"] = commit
        tags["flowsheet.git.dirty"] = str(bool(changes)).lower()
    return tags


def shorten_code_version(tags: Mapping[str, str]) -> dict[str, str]:
    """The values of :func:`collect_code_version` under short names."""
    return {short: tags[name] for name, short in _CODE_TAGS.items() if name in tags}


def _run_git(root: Path, *arguments: str) -> str | None:
    try:
        completed = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            encoding="utf-8",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()


def collect_environment() -> dict[str, Any]:
    """Python, machine and the versions of ``LIBRARIES``."""
    versions = {name: _find_version(name) for name in LIBRARIES}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "flowsheet": __version__,
        "libraries": {name: installed for name, installed in versions.items() if installed},
    }


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache  # reading the metadata of every distribution takes longer than logging a run
def freeze_requirements() -> str:
    """Every installed distribution with its version, as a constraints file.

    Without Flowsheet, which is not on the public index; its version is a tag of the run.
    """
    named = [d for d in distributions() if d.metadata["Name"] not in (None, "flowsheet")]
    versions = {d.metadata["Name"].lower(): d.version for d in named}
    return "".join(f"{name}=={versions[name]}\n" for name in sorted(versions))
