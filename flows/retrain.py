"""Run an experiment on the current records, and compare it with the champions."""

from __future__ import annotations

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import experiment as experiment_flow
from flows.liveness import keep_alive
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.compose import compose
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment.check import check_config


@task(cache_policy=NO_CACHE, task_run_name="compare with champions", **RETRY_ON_OUTAGE)
def compare_with_champions(run_id: str, champions: list[str]) -> str:
    """The leaderboard of the experiment and the champions on their common rows, as Markdown.

    If there are none, the reason why they cannot be compared.
    """
    from flowsheet.evaluation.leaderboard import render_leaderboard_markdown
    from flowsheet.lifecycle.deployment.compare_models import compare_runs

    progress = progress_logger("compare")
    try:
        comparison = compare_runs([run_id, *champions])
    except CheckFailed as error:
        progress(f"not comparable: {error}")
        return f"Not comparable: {error.what}"
    progress(f"compared on {comparison.rows}: report {comparison.report}")
    return render_leaderboard_markdown(comparison.evidence)


@flow(name="retrain", flow_run_name="retrain-{experiment}")
def retrain(
    experiment: str, overrides: list[str] | None = None, champions: list[str] | None = None
) -> str:
    """Run an experiment and compare it with ``champions``.

    Args:
        experiment: a choice in conf/experiment.
        overrides: changes to that choice, such as ``tuning.trials=20``.
        champions: ``NAME@ALIAS`` or run ids.

    Returns:
        The id of the experiment's MLflow run.
    """
    prepare_flow_process()
    with keep_alive():
        config = compose(experiment, overrides or [])
        check_config(config)
        summary = experiment_flow.run(config)
        progress_logger("retrain")(summary.headline)
        if champions:
            create_markdown_artifact(
                key="comparison-with-champions",
                markdown=compare_with_champions(summary.run_id, champions),
                description=f"{experiment} compared with the champions",
            )
        return summary.run_id
