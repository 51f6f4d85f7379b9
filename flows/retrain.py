"""An experiment on the records of now, compared with the models that serve."""

from __future__ import annotations

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows import experiment as experiments
from flows.liveness import present
from flows.records import progress
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.compose import compose
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment.check import check_config
from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def compare(run_id: str, champions: list[str]) -> str:
    """The experiment beside the champions, where all were tested on the same rows; else why they cannot be compared."""
    from flowsheet.evaluation.leaderboard import leaderboard_markdown
    from flowsheet.lifecycle.deployment.compare_models import compare_runs

    say = progress("compare")
    try:
        done = compare_runs([run_id, *champions])
    except CheckFailed as refusal:
        say(f"not comparable: {refusal}")
        return f"Not comparable: {refusal.what}"
    say(f"report {done.report}")
    return leaderboard_markdown(done.evidence)


@flow(name="retrain", flow_run_name="retrain-{experiment}")
def retrain(
    experiment: str, overrides: list[str] | None = None, champions: list[str] | None = None
) -> str:
    """Run an experiment and hold it against ``champions`` (``NAME@ALIAS`` or run ids); returns its MLflow run."""
    use_quiet_settings()
    with present():
        config = compose(experiment, overrides or [])
        check_config(config)
        outcome = experiments.run(config)
        progress("retrain")(outcome.headline)
        if champions:
            found = compare(outcome.run_id, champions)
            create_markdown_artifact(
                key="retrain", markdown=found, description=f"{experiment} beside the champions"
            )
        return outcome.run_id
