"""``flowsheet run`` and ``rerun``: an experiment's Prefect flow, on a local or a remote server."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from flowsheet.cli import options
from flowsheet.cli.completion import complete_choice

if TYPE_CHECKING:
    from flowsheet.config import ExperimentConfig
    from flowsheet.lifecycle.deployment.batch_plan import BatchPlan
    from flowsheet.lifecycle.experiment.record import RunSummary

_EXPERIMENT_FLOW = "flows.experiment:run"
_BUILD_IN_WORKERS = "flows.batches:build_in_workers"
_MARK_DEAD_RUNS = "flows.liveness:mark_dead_runs_crashed"
"""Entrypoints, as MODULE:FUNCTION."""


@click.command()
@click.argument("experiment", shell_complete=complete_choice("experiment"))
@options.overrides
@options.conf
@click.option("--dry-run", is_flag=True, help="Print the complete configuration and stop.")
@click.option("--no-register", is_flag=True, help="Register no model version, as for a quick test.")
@options.log_level
@options.as_json
def run(
    experiment: str,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    no_register: bool,
    as_json: bool,
) -> None:
    """Run EXPERIMENT (a name or a YAML file) from records to ranked, registered models.

    \b
    flowsheet run demo
    flowsheet run my-experiment.yaml
    flowsheet run physionet2019 cohort.path=training_setA.zip tuning.trials=5
    """
    from flowsheet.compose import compose

    if no_register:
        overrides = (*overrides, "registry.register_models=false")
    config = compose(experiment, overrides)
    if dry_run and as_json:
        click.echo(config.model_dump_json(indent=1))
        return
    if dry_run:
        click.echo(_to_yaml(config), nl=False)
        return
    summary = run_experiment(config)

    from flowsheet.cli.console import print_json, print_run_summary

    if as_json:
        print_json(summary.model_dump(mode="json", exclude={"markdown"}))
    else:
        print_run_summary(summary)


@click.command()
@click.argument("run_id")
@click.option("--all", "show_all", is_flag=True, help="Print equal metrics too.")
@options.log_level
def rerun(run_id: str, *, show_all: bool) -> None:
    """Run the experiment RUN_ID again from its record alone and compare every metric.

    Exits with 1 if a metric differs.
    """
    from flowsheet.cli.console import print_rerun
    from flowsheet.errors import CheckFailed
    from flowsheet.lifecycle.experiment import rerun as reruns
    from flowsheet.progress import report

    result = reruns.rerun(run_id, run_experiment, report)
    print_rerun(result, show_all=show_all)
    if not result.is_reproduced:
        differing = sum(not metric.is_equal for metric in result.metrics)
        changes = ", ".join(change.name for change in result.changes)
        raise CheckFailed(
            f"{differing} of {len(result.metrics)} metrics differ",
            where=f"run {result.old_run}",
            todo=f"changed: {changes or 'nothing that is recorded'}",
        )


def run_experiment(config: ExperimentConfig, tags: dict[str, str] | None = None) -> RunSummary:
    """Run an experiment's flow.

    ``tags`` become tags of its MLflow run, which is another run than one without them.

    Raises:
        UsageError: the configuration is wrong.
        CheckFailed: the records or all models failed, or what is asked for does not fit this
            machine.
    """
    from flowsheet.cli.progress_display import shown_progress
    from flowsheet.lifecycle.runtime.local_servers import prefect_api, use_quiet_settings
    from flowsheet.lifecycle.runtime.processes import interruptible
    from flowsheet.progress import report
    from flowsheet.state.home import home

    def import_and_check() -> None:
        """Slow imports, done while the server starts."""
        from flowsheet.lifecycle.experiment.capacity import check_experiment
        from flowsheet.lifecycle.experiment.check import check_config

        check_config(config)
        check_experiment(config)
        _load_entrypoint(_EXPERIMENT_FLOW)

    home()
    use_quiet_settings()
    report(f"experiment {config.name}: starting")
    with (
        interruptible(),
        shown_progress(f"experiment {config.name}"),
        _importable_flows(),
        prefect_api(while_starting=import_and_check),
    ):
        summary: RunSummary = _load_entrypoint(_EXPERIMENT_FLOW)(config, tags)
        return summary


def build_in_workers(step: str, plan: BatchPlan, workers: int, runner: str) -> None:
    """Build the batches of a plan in worker processes, where these are worth it.

    Args:
        step: ``score`` or ``monitor``.
        plan: the model, the extract and its batches.
        workers: the most processes.
        runner: what starts them.
    """
    if plan.count_workers(workers, runner) > 1:
        run_in_workers(_BUILD_IN_WORKERS, step, plan, workers, runner)


def run_in_workers(entrypoint: str, *arguments: Any) -> Any:
    """The result of a function of ``flows`` that runs a flow, with a Prefect server.

    Args:
        entrypoint: ``MODULE:FUNCTION``.
        arguments: of the function.
    """
    from flowsheet.lifecycle.runtime.local_servers import prefect_api, use_quiet_settings
    from flowsheet.state.home import home

    home()
    use_quiet_settings()
    with _importable_flows(), prefect_api(while_starting=lambda: _load_entrypoint(entrypoint)):
        return _load_entrypoint(entrypoint)(*arguments)


def mark_dead_flow_runs() -> None:
    """Mark flow runs whose process is gone as crashed, where a Prefect server is running."""
    from flowsheet.lifecycle.runtime.local_servers import running_prefect_api, use_quiet_settings

    use_quiet_settings()
    with running_prefect_api() as url, _importable_flows():
        if url:
            _load_entrypoint(_MARK_DEAD_RUNS)()


def _to_yaml(config: ExperimentConfig) -> str:
    """The configuration as YAML, checked down to every model's parameters."""
    import yaml

    from flowsheet.lifecycle.experiment.check import check_config

    check_config(config)
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


@contextlib.contextmanager
def _importable_flows() -> Iterator[None]:
    """Make the package ``flows`` importable during the block, here and in worker processes.

    ``flows`` lies beside the package ``flowsheet``, in a checkout as in an installed wheel. It must
    be importable by its name: Prefect's worker processes get tasks pickled by module and function
    name (``flows.experiment``, ``train_model``). They are spawned, and a spawned process starts
    with the ``sys.path`` that its parent has at that moment; so its folder is on the path for as
    long as the flow runs, and no longer.
    """
    from flowsheet.compose import resource_dir

    folder = str(resource_dir("flows").parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _load_entrypoint(entrypoint: str) -> Callable[..., Any]:
    """The function that ``MODULE:FUNCTION`` names.

    It is imported by name, so that nothing in ``flowsheet`` depends on Prefect.
    """
    module, _, function = entrypoint.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return loaded
