"""Judge what servers answered by what became of the patients, each version on its own answers.

The evidence is that of ``flowsheet evaluate``, of the answered steps only. Where a challenger has
scored the same requests in the shadow, both are compared on these, paired, and the challenger is
tagged with the verdict, which a promotion gate may ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.responses.base import find_words
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.report.data import describe_task
from flowsheet.lifecycle.deployment.evaluated_models import EvaluatedModel, load_models
from flowsheet.lifecycle.deployment.evaluation_section import render_home_section
from flowsheet.lifecycle.deployment.export_file import export_file
from flowsheet.lifecycle.deployment.external_evaluation import (
    check_outcomes,
    summarise_home,
)
from flowsheet.lifecycle.deployment.home_comparison import (
    HomeComparison,
    describe_prevalence,
    join_figures,
    select_model,
)
from flowsheet.lifecycle.deployment.record_end import find_record_end
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.outcomes.answers import RULE, ChosenAnswers, choose_answers
from flowsheet.lifecycle.outcomes.judged_rows import JudgedRows, NothingToJudge, judge_rows
from flowsheet.lifecycle.outcomes.live_comparison import judge_shadows
from flowsheet.lifecycle.outcomes.live_evidence import (
    describe_alerts,
    describe_evaluation,
    evaluate_rows,
)
from flowsheet.lifecycle.outcomes.outcomes_section import render_outcomes_section
from flowsheet.state.hashing import digest
from flowsheet.state.locations import Location
from flowsheet.state.store import Store
from flowsheet.timestamps import local_now_text
from flowsheet.tracking.evaluation_runs import LIVE, record_evaluation
from flowsheet.tracking.live_verdicts import LiveVerdict
from flowsheet.typing import Progress


@dataclass(frozen=True)
class JudgedVersion:
    """A version that answered, judged by the outcomes."""

    model: EvaluatedModel
    rows: JudgedRows
    stage: Stage
    evidence: Evidence
    home: HomeComparison
    """Its figures here and in its experiment."""
    given: int
    """Answers in the files, repeated ones included."""
    counted: int
    """Answers that count."""
    summary: str
    run_id: str = ""

    @property
    def version(self) -> int:
        """The version's number."""
        return self.model.version.version

    @property
    def alerts(self) -> str:
        """What its alerts were worth, in words."""
        return describe_alerts(self.evidence, self.model.name)

    @property
    def period(self) -> str:
        """The days of its judged answers."""
        return f"{self.rows.first:%Y-%m-%d} to {self.rows.last:%Y-%m-%d}"


@dataclass(frozen=True)
class Outcomes:
    """The result of judging."""

    model: str
    extract: str
    """Fingerprint."""
    until: datetime | None
    """When the record ends: later outcomes are not known."""
    versions: tuple[JudgedVersion, ...]
    verdicts: tuple[LiveVerdict, ...]
    not_judged: tuple[str, ...]
    """Why there is no result of a version, or on a challenger, in words."""
    report: Location


def judge_outcomes(
    answers: Path,
    extract: Location,
    progress: Progress,
    *,
    model: str | None = None,
    until: datetime | None = None,
    out: Location | None = None,
) -> Outcomes:
    """Judge the answers in a folder by the outcomes in an extract, and record it.

    Args:
        answers: folder that ``flowsheet serve --keep-answers`` wrote to.
        extract: folder of the cohort extract with the patients' whole stays.
        progress: receives lines about the progress.
        model: registered name, where the folder has answers of several.
        until: when the records were exported; by default the end of the extract's last stay. What
            is not known by then is not judged.
        out: file for a copy of the report.

    Raises:
        UsageError: the folder has answers of several models, a version is not registered, or
            ``until`` has a time zone.
        CheckFailed: there are no answers, none can be judged, or another model of the version's
            name and number gave them.
    """
    chosen = choose_answers(answers, model)
    records = Extract.open(extract, verify=True)
    until = find_record_end(records, until)
    versions = []
    not_judged = {}
    for version in chosen.answers["version"].unique().sort():
        try:
            versions.append(_judge_version(chosen, version, records, until))
        except NothingToJudge as error:
            not_judged[version] = error
            continue
        progress(f"version {version}: {versions[-1].rows.answers:,} answers judged")
    if not versions:
        raise next(iter(not_judged.values()))
    verdicts, without = judge_shadows(chosen, records, until)
    without = (*(f"version {v}: {error.what}" for v, error in not_judged.items()), *without)
    report = _write_report(versions, verdicts, without, records, until=until)
    if out is not None:
        export_file(report, out)
    recorded = tuple(replace(v, run_id=_record(v, records, report)) for v in versions)
    return Outcomes(
        model=chosen.model,
        extract=records.fingerprint,
        until=until,
        versions=recorded,
        verdicts=verdicts,
        not_judged=without,
        report=out or report,
    )


def to_json(outcomes: Outcomes) -> dict[str, Any]:
    """The result as plain values; what is not estimable is null."""
    versions = {
        str(judged.version): {
            "summary": judged.summary,
            "alerts": judged.alerts,
            "run": judged.run_id,
            "period": [judged.rows.first.isoformat(), judged.rows.last.isoformat()],
            "threshold": judged.model.development.policy.threshold,
            "given": judged.given,
            "counted": judged.counted,
            "judged": judged.rows.answers,
            "unjudged": [unjudged.model_dump() for unjudged in judged.rows.unjudged],
            "figures": judged.home.figures.fill_nan(None).to_dicts(),
        }
        for judged in outcomes.versions
    }
    return {
        "model": outcomes.model,
        "extract": outcomes.extract,
        "until": outcomes.until.isoformat() if outcomes.until else None,
        "rule": RULE,
        "versions": versions,
        "verdicts": [verdict.model_dump(mode="json") for verdict in outcomes.verdicts],
        "not_judged": list(outcomes.not_judged),
        "report": str(outcomes.report),
    }


def _judge_version(
    chosen: ChosenAnswers, version: int, extract: Extract, until: datetime | None
) -> JudgedVersion:
    """Judge a version by its own answers.

    Args:
        chosen: all answers that count.
        version: the version's number.
        extract: the outcomes.
        until: when the record ends.
    """
    (model,) = load_models([f"{chosen.model}/{version}"])
    check_outcomes(extract, model.package.task.response)
    own = chosen.answers.filter(version=version)
    rows = judge_rows([model], {model.name: own}, chosen, extract, until)
    stage, evidence = evaluate_rows([model], rows)
    home = select_model(model.home, model.home_name)
    here = select_model(evidence, model.name)
    words = find_words(model.package.task.response)
    comparison = HomeComparison(
        tuple(describe_prevalence(home, here, words)), (), join_figures(home, here)
    )
    return JudgedVersion(
        model,
        rows,
        stage,
        evidence,
        comparison,
        given=int(chosen.given.filter(version=version)["answers"].sum()),
        counted=own.height,
        summary=summarise_home(evidence, comparison),
    )


def _record(judged: JudgedVersion, extract: Extract, report: Path) -> str:
    """Record a version's figures below its run; returns the id of the new run."""
    version = judged.model.version
    return record_evaluation(
        version,
        digest([judged.stage.key, version.reference, extract.fingerprint, "answers"]),
        describe_evaluation(judged.model, judged.rows, judged.evidence, extract, judged.summary),
        judged.evidence.metrics(judged.model.name, part=LIVE),
        {"evidence": judged.stage.folder, "report": report.parent},
    )


def _write_report(
    versions: Sequence[JudgedVersion],
    verdicts: Sequence[LiveVerdict],
    not_judged: Sequence[str],
    extract: Extract,
    *,
    until: datetime | None,
) -> Path:
    """Write the page of all versions, with the whole evidence of the one that answered last.

    Args:
        versions: the judged versions.
        verdicts: on challengers.
        not_judged: why there is no result of others.
        extract: the outcomes.
        until: when the record ends.
    """
    last = max(versions, key=lambda judged: judged.rows.last)
    reference = last.model.version
    page = render(
        ReportData(
            title=f"Answers of {reference.name}",
            evidence=last.evidence,
            question=describe_task(last.model.package.task),
            task=last.model.package.task,
            description=f"What version {last.version} answered from {last.period}, and what "
            "became of the patients.",
            opening_sections=(
                render_outcomes_section(versions, verdicts, not_judged),
                render_home_section(
                    {f"version {judged.version}": judged.home for judged in versions},
                    last.evidence,
                ),
            ),
            record={
                "Extract": {
                    "source": extract.manifest.source.name,
                    "fingerprint": extract.fingerprint,
                    "record ends": f"{until}" if until else "not known: no calendar times",
                },
                "Versions": {v.model.version.reference: v.model.package.digest for v in versions},
            },
            created_at=local_now_text(),
        )
    )
    key = digest(["outcomes", *(judged.stage.key for judged in versions), extract.fingerprint])
    folder = Store.open().path("report", key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder / "report.html"
