"""The report of an experiment: gathered from its stages, written as one HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from flowsheet.cohort.extract import Extract, Manifest
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report import CohortReport, ModelReport, ReportData, Section, render
from flowsheet.evaluation.report.data import describe_protocol, describe_task
from flowsheet.lifecycle.experiment.evaluate import load_evidence
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, ExperimentResults
from flowsheet.lifecycle.experiment.prepare import load_summary, open_extract
from flowsheet.lifecycle.experiment.train import load_trials
from flowsheet.models.base import MODELS
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json
from flowsheet.state.publish import publish
from flowsheet.state.store import Store
from flowsheet.timestamps import local_now_text
from flowsheet.tracking.run_metadata import collect_code_version, collect_environment, flatten
from flowsheet.tuning.importance import importance
from flowsheet.windows.sequences import Sequences

_TRIALS = {"number": pl.Int64, "state": pl.String, "value": pl.Float64}


def path(results: ExperimentResults) -> Path:
    """Where the report of these results is, or will be."""
    keys = [made.key for made in (results.evidence, results.memory) if made]
    return Store.open().path("report", digest(keys)) / "report.html"


def write(results: ExperimentResults, run_id: str, sections: Sequence[Section]) -> None:
    """Write the report to :func:`path`; ``sections`` are those of special studies."""
    config, plan = results.config, results.plan
    extract = open_extract(plan.first_fold.data.extract)
    page = render(
        ReportData(
            title=config.name,
            evidence=load_evidence(results.evidence),
            question=describe_task(config.task),
            description=config.description,
            protocol=describe_protocol(config.evaluation),
            cohort=_cohort(extract, plan),
            sections=tuple(sections),
            excluded_models=results.left_out,
            models=tuple(_model(results, name) for name in results.models),
            record=_facts(results, extract, run_id),
            config_yaml=yaml.safe_dump(
                config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
            ),
            created_at=local_now_text(),
        )
    )
    with publish(path(results).parent) as part:
        (part / "report.html").write_text(page)


def _cohort(extract: Extract, plan: ExperimentPlan) -> CohortReport:
    manifest, counted = extract.manifest, load_summary(plan.first_fold.data.windows)
    missing = counted["unknown_share"]
    assert isinstance(missing, dict)
    return CohortReport(
        source=manifest.source.name,
        licence=manifest.source.licence,
        counts=manifest.counts,
        attrition=manifest.attrition,
        quarantined=tuple((q.table, q.rule, q.rows) for q in manifest.quarantined),
        parts=pl.DataFrame(list(_parts(plan))),
        missing=missing,
        prevalence=_prevalence(manifest),
        counted=dict((*manifest.exclusions, *manifest.source_counts)),
        parameters=flatten(manifest.source.options),
    )


def _prevalence(manifest: Manifest) -> pl.DataFrame:
    held = pl.DataFrame([entry.model_dump() for entry in manifest.prevalence])
    if held.is_empty():
        return held
    septic = pl.col("with_episode").alias("septic")
    return held.select("by", "group", "stays", septic, (septic / pl.col("stays")).alias("share"))


def _parts(plan: ExperimentPlan) -> Iterator[dict[str, Any]]:
    """Training, validation and test; of several folds the parts that are tested."""
    if len(plan.folds) == 1:
        for name, part in zip(
            ("training", "validation", "test"), plan.first_fold.data.load_parts(), strict=True
        ):
            yield _part(name, part)
        return
    for each in plan.folds:
        yield _part(f"tested in {each.name}", each.data.load_parts()[2])


def _part(name: str, part: Sequences) -> dict[str, Any]:
    return {
        "part": name,
        "subjects": int(np.unique(part.subject_id).size),
        "stays": len(part),
        "rows": int(part.scored.sum()),
        "events": int(part.y[part.scored].sum()),
    }


def _model(results: ExperimentResults, name: str) -> ModelReport:
    """One model, as the round in service has it, or the first where there is none."""
    plan = results.plan
    shown = plan.final_refit or plan.first_fold
    made, config = results.trained[shown.name][name], shown.config
    can = MODELS.get(config.models[name].kind).capabilities
    tuning = read_json(made.folder / "tuning.json")
    mattered = importance(
        config.models[name].kind, config.models[name], load_trials(made), config.seed
    )
    trials = [{key: trial[key] for key in _TRIALS} for trial in tuning["trials"]]
    return ModelReport(
        name=name,
        family=can.family.value,
        input_description=can.input_description,
        params=tuning["params"],
        tuning_score=f"{METRICS.get(config.tuning.metric).label} on the validation subjects",
        trials=pl.DataFrame(trials, schema=_TRIALS),
        tables={
            file.stem: pl.read_parquet(file)
            for file in sorted((made.folder / "tables").glob("*.parquet"))
        },
        importance=mattered.table,
        importance_unavailable=mattered.left_out,
        seconds=sum(results.trained[each.name][name].seconds for each in plan.all_folds),
    )


def _facts(results: ExperimentResults, extract: Extract, run_id: str) -> dict[str, dict[str, Any]]:
    around, stages = collect_environment(), results.stages
    models = {name: made for name, made in stages.items() if made.kind == "model"}
    return {
        "Run": {"MLflow run": run_id, "seed": results.config.seed, **collect_code_version()},
        "Fingerprints": {
            "extract": extract.fingerprint,
            "windows": results.plan.first_fold.data.windows.key,
            "split": results.plan.split_fingerprint(),
            **{f"model {name}": made.key for name, made in models.items()},
        },
        "Versions": {key: around[key] for key in ("python", "platform", "flowsheet")}
        | around["libraries"],
        "Seconds": {name: made.seconds for name, made in stages.items()},
    }
