"""Evaluations of registered versions, as MLflow runs below the model's run.

A version is evaluated on another extract, or by the outcomes of the answers that it gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from flowsheet.config import FrozenModel
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.runs import Tracker

PART = "external"
"""Prefix of the metrics on another extract."""
LIVE = "live"
"""Prefix of the metrics of answers."""
_DETAILS = "flowsheet.evaluation"


class EvaluationDetails(FrozenModel):
    """What an evaluation was about."""

    version: str
    """``NAME/VERSION``."""
    source: str
    extract: str
    """Fingerprint of the evaluated extract."""
    is_home: bool
    """The extract is the one that the model was developed on."""
    stays: int
    subjects: int
    ranking_subset: str
    metric: str
    summary: str
    """The metric here and at home, in words."""
    kind: Literal["extract", "answers"] = "extract"
    """What was judged: predictions of all stays of the extract, or a server's answers."""
    period: str = ""
    """Of answers: the first and the last day."""


class RecordedEvaluation(FrozenModel):
    """An evaluation in MLflow."""

    run_id: str
    evaluated_at: datetime
    details: EvaluationDetails
    metrics: dict[str, float]
    """``external.auroc``, ``external.new_onsets.auroc``, ...; of answers ``live.auroc``, ..."""


def record_evaluation(
    version: ModelVersion,
    key: str,
    details: EvaluationDetails,
    metrics: Mapping[str, float],
    folders: Mapping[str, Path],
) -> str:
    """Record an evaluation below the run of the version's model; returns the id of its run.

    Args:
        version: the evaluated version.
        key: digest of everything that the evaluation depends on: there is one run for each.
        details: what it was about.
        metrics: {name: value}.
        folders: {name: folder}, whose files become artifacts below the name.
    """
    tracker = Tracker.open()
    where = f"{details.source} {details.extract[:8]}"
    title = f"{version.reference} on {where}"
    if details.kind == "answers":
        title = f"{version.reference}, answers of {details.period}, outcomes of {where}"
    tags = {"flowsheet.key": key, "flowsheet.model_version": version.reference}
    run_id = tracker.start_evaluation_run(version.run_id, title, tags)
    tracker.log(
        run_id,
        params={"extract": details.extract, "source": details.source},
        metrics=metrics,
        tags={_DETAILS: details.model_dump_json()},
    )
    for name, folder in folders.items():
        tracker.log_artifacts(run_id, folder, name)
    tracker.set_description(run_id, details.summary)
    tracker.finish(run_id)
    return run_id


def list_evaluations(version: ModelVersion) -> list[RecordedEvaluation]:
    """The evaluations of a version's model, oldest first, whatever name it was evaluated under.

    Those of answers are among them.
    """
    evaluations = []
    for run in Tracker.open().list_evaluation_runs(version.run_id):
        if _DETAILS not in run.data.tags:
            continue
        evaluations.append(
            RecordedEvaluation(
                run_id=run.info.run_id,
                evaluated_at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
                details=EvaluationDetails.model_validate_json(run.data.tags[_DETAILS]),
                metrics=dict(run.data.metrics),
            )
        )
    return sorted(evaluations, key=lambda evaluation: evaluation.evaluated_at)
