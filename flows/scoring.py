"""Batch scoring: an extract in, risks as Parquet out."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.ingest import LIMIT_SECONDS, extract_of
from flows.liveness import present
from flows.records import progress
from flows.retries import RETRY_ON_OUTAGE
from flowsheet.lifecycle.deployment.batch_scoring import ScoringResult, score
from flowsheet.lifecycle.runtime.local_servers import use_quiet_settings


@task(cache_policy=NO_CACHE, **RETRY_ON_OUTAGE)
def score_extract(model: str, extract: str, out: str | None) -> ScoringResult:
    """Every stay; the same version and records are scored once."""
    say = progress("score")
    done = score(model, Path(extract), Path(out) if out else None, say)
    say(f"{done.stays:,} stays, {done.steps:,} steps by {done.model}/{done.version}: {done.file}")
    return done


@flow(name="scoring", flow_run_name="scoring-{model}", timeout_seconds=LIMIT_SECONDS)
def scoring(
    model: str,
    extract: str | None = None,
    cohort: str | None = None,
    overrides: list[str] | None = None,
    out: str | None = None,
) -> ScoringResult:
    """Score an extract, or a cohort's records as they are now, with the version that ``NAME@ALIAS``
    means.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: a folder with an extract.
        cohort: instead of it, a choice of conf/cohort.
        overrides: changes to that choice, such as ``cohort.path=/records/today``.
        out: where a copy of the risks is put.
    """
    use_quiet_settings()
    with present():
        return score_extract(model, extract_of(extract, cohort, overrides or []), out)
