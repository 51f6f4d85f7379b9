"""Judge what servers answered by the outcomes of an extract, and tag challengers in the shadow."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.ingest import TIMEOUT_SECONDS, find_or_ingest_extract
from flows.liveness import keep_alive
from flows.process_settings import prepare_flow_process
from flows.records import progress_logger
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.lifecycle.outcomes.outcomes import judge_outcomes
from flowsheet.state.locations import local_path, parse_location


@task(cache_policy=NO_CACHE, task_run_name="judge answers", **RETRY_ON_OUTAGE)
def judge_answers(
    answers: str, extract: str, model: str | None, until: datetime | None = None
) -> list[str]:
    """Judge the answers; returns the results in words.

    Args:
        answers: folder that servers kept answers in.
        extract: folder of the extract with the outcomes.
        model: registered name, where there are answers of several.
        until: when the records were exported; by default the end of the extract's last stay.
    """
    progress = progress_logger("outcomes")
    folder = local_path(answers, "answers")
    result = judge_outcomes(folder, parse_location(extract), progress, model=model, until=until)
    lines = [f"version {judged.version}: {judged.summary}" for judged in result.versions]
    lines += [verdict.summary for verdict in result.verdicts]
    for line in (*lines, *result.not_judged, f"report: {result.report}"):
        progress(line)
    return lines


@flow(name="outcomes", flow_run_name="outcomes-{answers}", timeout_seconds=TIMEOUT_SECONDS)
def outcomes(
    answers: str,
    extract: str | None = None,
    cohort: str | None = None,
    overrides: list[str] | None = None,
    *,
    model: str | None = None,
    until: datetime | None = None,
) -> list[str]:
    """Judge kept answers by an extract, or by a cohort's current records.

    Args:
        answers: folder that ``flowsheet serve --keep-answers`` wrote to.
        extract: the folder of an extract.
        cohort: instead of an extract, a choice in conf/cohort.
        overrides: changes to that choice, such as ``cohort.path=/records/today``.
        model: registered name, where the folder has answers of several.
        until: when the records were exported, by the hospital's clock; by default the end of the
            extract's last stay. Outcomes that are not known by then are not judged.
    """
    prepare_flow_process()
    with keep_alive():
        folder = find_or_ingest_extract(extract, cohort, overrides or [])
        return judge_answers(answers, folder, model, until)
