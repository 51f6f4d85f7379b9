"""What a run says about itself: parameters to compare by, code, environment."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
_COMPARED = ("cohort", "task", "features", "tuning", "evaluation")
_PARAM_LENGTH = 6000


def get_experiment_params(config: ExperimentConfig) -> dict[str, str]:
    """The choices of an experiment as flat parameters, ``task.horizon`` and the like, for MLflow's
    compare view.

    ``compute`` is left out: no result depends on it. A parameter holds at most 6,000 characters;
    the whole configuration is an artifact.
    """
    chosen = config.model_dump(mode="json", include=set(_COMPARED))
    return {"seed": str(config.seed), **flatten(chosen)}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as dotted names; lists are joined, what is empty is left out.

    >>> flatten({"task": {"horizon": 1, "cutoff_hours": None}, "of": ["a", "b"]})
    {'task.horizon': '1', 'of': 'a, b'}
    """
    return dict(_flat(values, prefix))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            if value:
                yield f"{prefix}{name}", ", ".join(map(str, value))[:_PARAM_LENGTH]
        elif value is not None and value != "":
            yield f"{prefix}{name}", str(value)[:_PARAM_LENGTH]


def collect_code_version() -> dict[str, str]:
    """The package's version, and the commit where it runs from a checkout, as tags."""
    tags = {"flowsheet.version": __version__}
    root = Path(__file__).resolve().parents[3]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit:
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        tags |= {
            "mlflow.source.git.commit": commit,
            "flowsheet.git.dirty": str(bool(changed)).lower(),
        }
    return tags


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def collect_environment() -> dict[str, Any]:
    """Python, machine and the versions of the libraries that results depend on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "flowsheet": __version__,
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def freeze_requirements() -> str:
    """Every installed distribution with its version, as a constraints file."""
    held = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return "".join(f"{name}=={held[name]}\n" for name in sorted(held))
