"""The HTML report of an experiment, collected from its stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from flowsheet.cohort.extract import Extract, Manifest
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report import (
    CohortReport,
    ModelReport,
    PatientReport,
    ReportData,
    Section,
    render,
)
from flowsheet.evaluation.report.data import describe_protocol, describe_task
from flowsheet.evaluation.study import StudyFacts
from flowsheet.evaluation.study.facts import MANIFEST_FILE
from flowsheet.lifecycle.experiment.evaluate import load_evidence
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, ExperimentResults
from flowsheet.lifecycle.experiment.patients import describe_patients
from flowsheet.lifecycle.experiment.prepare import load_summary, open_extract
from flowsheet.lifecycle.experiment.study import collect_study
from flowsheet.lifecycle.experiment.train import load_trials
from flowsheet.models.base import MODELS
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.publish import publish
from flowsheet.state.store import Store
from flowsheet.timestamps import local_now_text
from flowsheet.tracking.run_metadata import collect_code_version, collect_environment, flatten
from flowsheet.tuning.importance import importance
from flowsheet.windows.sequences import Sequences

_TRIAL_COLUMNS = {"number": pl.Int64, "state": pl.String, "value": pl.Float64}


def report_path(results: ExperimentResults) -> Path:
    """Path of the report of these results, whether it exists or not."""
    ablation = results.ablation.evidence if results.ablation else None
    keys = [stage.key for stage in (results.evidence, results.memory, ablation) if stage]
    return Store.open().path("report", digest(keys)) / "report.html"


def load_study(results: ExperimentResults) -> StudyFacts | None:
    """The facts about the study, which are written with the report."""
    return StudyFacts.load(report_path(results).parent)


def write_report(results: ExperimentResults, run_id: str, sections: Sequence[Section]) -> None:
    """Write the report to :func:`report_path`, with further ``sections`` after the evidence.

    The facts about the study and the extract's manifest are written beside it.
    """
    config = results.config
    plan = results.plan
    extract = open_extract(plan.first_fold.data.extract)
    study = collect_study(results)
    page = render(
        ReportData(
            title=config.name,
            evidence=load_evidence(results.evidence),
            question=describe_task(config.task),
            task=config.task,
            description=config.description,
            protocol=describe_protocol(config.evaluation),
            cohort=_cohort_report(extract, plan),
            study=study,
            patients=_patients(results),
            sections=tuple(sections),
            excluded_models=results.excluded_models,
            models=tuple(_model_report(results, name) for name in results.models),
            record=_run_details(results, extract, run_id),
            config_yaml=yaml.safe_dump(
                config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
            ),
            created_at=local_now_text(),
        )
    )
    with publish(report_path(results).parent) as folder:
        (folder / "report.html").write_text(page, encoding="utf-8")
        study.save(folder)
        write_json(folder / MANIFEST_FILE, extract.manifest.model_dump(mode="json"))


def _patients(results: ExperimentResults) -> tuple[PatientReport, ...]:
    return tuple(describe_patients(results)) if results.config.evaluation.show_patients else ()


def _cohort_report(extract: Extract, plan: ExperimentPlan) -> CohortReport:
    manifest = extract.manifest
    missing = load_summary(plan.first_fold.data.windows)["missing_share"]
    assert isinstance(missing, dict)
    return CohortReport(
        source=manifest.source.name,
        licence=manifest.source.licence,
        is_simulated=plan.first_fold.config.cohort.source == "simulated",
        warnings=manifest.warnings,
        counts=manifest.counts,
        attrition=manifest.attrition,
        quarantined=tuple((q.table, q.rule, q.rows) for q in manifest.quarantined),
        parts=pl.DataFrame(list(_split_parts(plan))),
        missing_shares=missing,
        prevalence=_prevalence(manifest, plan.first_fold.config.task.response),
        processing_counts=dict((*manifest.exclusions, *manifest.source_counts)),
        parameters={**manifest.source.choices, **flatten(manifest.source.options)},
    )


def _prevalence(manifest: Manifest, response: str) -> pl.DataFrame:
    entries = manifest.prevalence_of(response)
    prevalence = pl.DataFrame([entry.model_dump() for entry in entries])
    if prevalence.is_empty():
        return prevalence
    share = (pl.col("with_episode") / pl.col("stays")).alias("share")
    return prevalence.select("by", "group", "stays", "with_episode", share)


def _split_parts(plan: ExperimentPlan) -> Iterator[dict[str, Any]]:
    """Counts of the training, validation and test part; of several folds, of the test parts."""
    if len(plan.folds) == 1:
        parts = plan.first_fold.data.load_parts()
        yield _count_part("training", parts.train)
        yield _count_part("validation", parts.valid)
        yield _count_part("test", parts.test)
        return
    for fold in plan.folds:
        yield _count_part(f"tested in {fold.name}", fold.data.load_parts().test)


def _count_part(name: str, part: Sequences) -> dict[str, Any]:
    new_onset_rows = part.scored & ~part.in_state
    return {
        "part": name,
        "subjects": int(np.unique(part.subject_id).size),
        "stays": len(part),
        "scored_stays": int(np.unique(part.row_stay[part.scored]).size),
        "rows": int(part.scored.sum()),
        "events": int(part.y[part.scored].sum()),
        "new_onset_rows": int(new_onset_rows.sum()),
        "new_onsets": int(part.y[new_onset_rows].sum()),
    }


def _model_report(results: ExperimentResults, name: str) -> ModelReport:
    """One model as trained in the final refit, or in the first fold if there is no refit."""
    plan = results.plan
    fold = plan.final_refit or plan.first_fold
    config = fold.config
    model = config.models[name]
    stage = results.trained[fold.name][name]
    capabilities = MODELS.get(model.kind).capabilities
    tuning = read_json(stage.folder / "tuning.json")
    param_importance = importance(model.kind, model, load_trials(stage), config.seed)
    trials = [{column: trial[column] for column in _TRIAL_COLUMNS} for trial in tuning["trials"]]
    table_files = sorted((stage.folder / "tables").glob("*.parquet"))
    return ModelReport(
        name=name,
        family=capabilities.family.value,
        input_description=capabilities.input_description,
        params=tuning["params"],
        tuning_score=f"{get_metric(config.tuning.metric).label} on the validation subjects",
        trials=pl.DataFrame(trials, schema=_TRIAL_COLUMNS),
        tables={file.stem: pl.read_parquet(file) for file in table_files},
        importance=param_importance.table,
        importance_unavailable=param_importance.reason_unavailable,
        seconds=sum(results.trained[fold.name][name].seconds for fold in plan.all_folds),
    )


def _run_details(
    results: ExperimentResults, extract: Extract, run_id: str
) -> dict[str, dict[str, Any]]:
    """Everything that identifies the run: fingerprints, versions and durations."""
    environment = collect_environment()
    stages = results.stages
    model_keys = {
        f"model {name}": stage.key for name, stage in stages.items() if stage.kind == "model"
    }
    versions = {name: environment[name] for name in ("python", "platform", "flowsheet")}
    return {
        "Run": {"MLflow run": run_id, "seed": results.config.seed, **collect_code_version()},
        "Fingerprints": {
            "extract": extract.fingerprint,
            "windows": results.plan.first_fold.data.windows.key,
            "split": results.plan.split_fingerprint(),
            **model_keys,
        },
        "Versions": versions | environment["libraries"],
        "Seconds": {name: stage.seconds for name, stage in stages.items()},
    }
