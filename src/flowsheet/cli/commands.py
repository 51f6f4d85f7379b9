"""The commands' use cases, from words on the command line to lines on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from flowsheet.cli import console as terminal
from flowsheet.cli.simulate import check_overwritable, write_raw_tables
from flowsheet.cohort.extract import Extract, check_extract
from flowsheet.cohort.ingest import ingest as ingest_source
from flowsheet.cohort.ingest import make_source
from flowsheet.compose import compose, compose_cohort
from flowsheet.config import CohortConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.experiment.check import check_config
from flowsheet.lifecycle.experiment.prepare import ingest_cohort, open_extract


def resolved(experiment: str, overrides: Sequence[str]) -> str:
    """The experiment's configuration as YAML, checked down to every model's parameters."""
    config = compose(experiment, overrides)
    check_config(config)
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def ingest(cohort: str, overrides: Sequence[str], out: Path | None) -> None:
    """Make an extract, in the store or at ``out``, and print what it holds."""
    config = compose_cohort(cohort, overrides)
    extract = _write(config, out) if out else open_extract(ingest_cohort(config, _say))
    terminal.extract(extract, terminal.console())


def simulate(
    out: Path,
    *,
    stays: int | None,
    seed: int | None,
    cohort: str | None,
    form: str = "extract",
    overrides: Sequence[str] = (),
) -> None:
    """Write a simulated ward, as an extract or as raw tables (``form``)."""
    wanted = {"stays": stays, "seed": seed}
    asked = [f"cohort.options.{key}={value}" for key, value in wanted.items() if value is not None]
    raw = [o for o in overrides if o.startswith("raw.")]
    law = [*asked, *(o for o in overrides if o not in raw)]
    if form == "mimic3":
        check_overwritable(out, "truth/summary.json", "raw tables")
        write_raw_tables(out, compose_cohort(cohort or "simulated_icu", law), raw, _say)
        return
    if raw:
        raise UsageError(f"{raw[0]!r} is for raw tables", todo="say --as mimic3, or leave it out")
    terminal.extract(_write(compose_cohort(cohort or "simulated", law), out), terminal.console())


def _write(config: CohortConfig, out: Path) -> Extract:
    check_overwritable(out, "manifest.json", "an extract")
    return ingest_source(make_source(config), config, out, _say)


def validate(folder: Path) -> None:
    """Check an extract and print the table of failures.

    Raises:
        CheckFailed: there are failures.
    """
    failures = check_extract(folder)
    if failures.is_empty():
        terminal.console().print(f"{folder}: a valid cohort extract")
        return
    terminal.failures(failures, terminal.console())
    raise CheckFailed(
        f"{failures.height} failures", where=str(folder), todo="mend the rows named above"
    )


def compare(runs: Sequence[str], metric: str | None) -> None:
    """Compare runs and print the leaderboard and what each pair comes to."""
    from flowsheet.lifecycle.deployment.compare_models import compare_runs

    terminal.comparison(compare_runs(runs, metric), terminal.console())


def rerun(run_id: str) -> None:
    """Run an experiment again and print figure by figure what came back.

    Raises:
        CheckFailed: a figure differs.
    """
    from flowsheet.cli.run import run_config
    from flowsheet.lifecycle.experiment.rerun import rerun as run_again

    done = run_again(run_id, run_config, _say)
    terminal.rerun(done, terminal.console())
    if not done.is_reproduced:
        differing = sum(not line.is_equal for line in done.metrics)
        causes = ", ".join(line.name for line in done.changes) or "nothing that the record tells of"
        raise CheckFailed(
            f"{differing} of {len(done.metrics)} figures differ",
            where=f"run {done.old_run}",
            todo=f"changed: {causes}",
        )


def score(model: str, extract: Path, out: Path | None) -> None:
    """Score an extract and say where the risks are."""
    from flowsheet.lifecycle.deployment.batch_scoring import score as score_extract

    done = score_extract(model, extract, out, _say)
    how = "scored before" if done.stage.reused else f"scored in {done.stage.seconds:.1f} s"
    print(
        f"{done.stays:,} stays, {done.steps:,} steps by {done.model}/{done.version}, {how}: {done.file}"
    )


def monitor(model: str, extract: Path, out: Path | None, choice: str) -> None:
    """Compare an extract with a model's training reference and say what has changed.

    Raises:
        CheckFailed: something has.
    """
    from flowsheet.lifecycle.deployment import monitoring

    done = monitoring.monitor(model, extract, _say, monitoring.load_monitoring_config(choice), out)
    terminal.monitored(done, terminal.console())
    if done.has_flags:
        names = ", ".join(dict.fromkeys(flag.name for flag in done.flags))
        raise CheckFailed(f"changed: {names}", where=str(extract), todo=f"read {done.report}")


def promote(
    name: str, version: int | None, choice: str, *, service: str | None, reason: str, actor: str
) -> None:
    """Promote a version and print gate by gate what it showed.

    Raises:
        CheckFailed: a gate failed.
    """
    from flowsheet.lifecycle.deployment import promotion

    config = promotion.load_promotion_config(choice)
    verdict = promotion.promote(name, version, config, service=service, actor=actor, reason=reason)
    terminal.gates(verdict, terminal.console())
    if not verdict.promoted:
        failed = ", ".join(gate.name for gate in verdict.gates if not gate.passed)
        raise CheckFailed(
            f"refused: {failed}", where=f"{verdict.decision.name}/{verdict.decision.version}"
        )


def rollback(name: str, reason: str, actor: str) -> None:
    """Bring the former champion back."""
    from flowsheet.lifecycle.deployment import promotion

    done = promotion.rollback(name, actor=actor, reason=reason)
    terminal.console().print(
        f"{done.name}/{done.version} is the champion again, in place of version {done.previous_version}"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
