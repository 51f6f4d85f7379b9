"""Run an experiment's flow on a Prefect server of one's own, or on the configured one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from flowsheet.compose import compose, resource_dir
from flowsheet.config import ExperimentConfig
from flowsheet.lifecycle.runtime.local_servers import prefect_api, use_quiet_settings
from flowsheet.lifecycle.runtime.processes import sigterm_as_interrupt
from flowsheet.state.home import home

if TYPE_CHECKING:
    from flowsheet.lifecycle.experiment.record import RunSummary


def run(experiment: str, overrides: Sequence[str]) -> None:
    """Run an experiment and print its leaderboard.

    Raises:
        UsageError: the configuration is wrong.
        CheckFailed: the records or all models failed.
    """
    outcome = run_config(compose(experiment, overrides))
    from flowsheet.cli import console as terminal

    terminal.leaderboard(outcome, terminal.console())


def run_config(config: ExperimentConfig, tags: dict[str, str] | None = None) -> RunSummary:
    """Run an experiment; ``tags`` become tags of its MLflow run and keep it apart from one without them."""
    home()
    use_quiet_settings()

    def prepare() -> None:  # slow imports, while the server starts
        from flowsheet.lifecycle.experiment.check import check_config

        check_config(config)
        _flow("experiment")

    print(f"experiment {config.name}", file=sys.stderr, flush=True)
    with sigterm_as_interrupt(), prefect_api(meanwhile=prepare):
        outcome: RunSummary = _flow("experiment").run(config, tags)
        return outcome


def _flow(name: str) -> ModuleType:
    """The module of a flow, which alone knows Prefect."""
    folder = resource_dir("flows").parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(f"flows.{name}")
