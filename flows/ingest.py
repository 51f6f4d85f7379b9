"""Records to a validated extract, on a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.liveness import present
from flows.records import progress
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.compose import compose_cohort
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment import prepare
from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings

LIMIT_SECONDS = 6 * 3600
"""For flows that read a whole extract."""


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def extract_of(folder: str | None, cohort: str | None, overrides: Sequence[str] = ()) -> str:
    """The folder of an extract: the one that is given, or that of a cohort's records as they are
    now.

    Raises:
        UsageError: neither or both are given.
        CheckFailed: the records cannot be read, or break the contract beyond the declared policy.
    """
    if (folder is None) == (cohort is None):
        raise UsageError(
            "give an extract's folder or the name of a cohort",
            todo="set the parameter extract or cohort",
        )
    if folder is not None:
        return folder
    assert cohort is not None
    say = progress("ingest")
    made = prepare.ingest_cohort(compose_cohort(cohort, list(overrides)), say)
    opened = prepare.open_extract(made)
    say(
        f"{'found again' if made.reused else 'made'}: extract {opened.fingerprint[:16]} in {opened.path}"
    )
    return str(opened.path)


@flow(name="ingest", flow_run_name="ingest-{cohort}", timeout_seconds=LIMIT_SECONDS)
def ingest(cohort: str, overrides: list[str] | None = None) -> Path:
    """Read, check and keep a cohort's records; unchanged records are found again."""
    use_quiet_settings()
    with present():
        return Path(extract_of(None, cohort, overrides or []))
