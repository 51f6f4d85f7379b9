"""The report of an experiment: gathered from its stages, written as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from flowsheet.cohort.extract import Extract
from flowsheet.config import ExperimentConfig
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report import CohortReport, ModelReport, ReportData, render
from flowsheet.evaluation.report.data import question
from flowsheet.home import Store, publish, read_json
from flowsheet.lifecycle.compare import evidence
from flowsheet.lifecycle.prepare import open_extract, summary
from flowsheet.lifecycle.stage import Stage
from flowsheet.lifecycle.train import Data
from flowsheet.models.base import MODELS
from flowsheet.tracking.describe import code_version, environment
from flowsheet.windows.sequences import Sequences

_TRIALS = {"number": pl.Int64, "state": pl.String, "value": pl.Float64}


def path(compared: Stage) -> Path:
    """Where the report of that evidence is, or will be."""
    return Store.open().path("report", compared.key) / "report.html"


def write(config: ExperimentConfig, data: Data, trained: Mapping[str, Stage], compared: Stage, run_id: str) -> None:
    """Write the report to :func:`path`."""
    extract = open_extract(data.extract)
    page = render(
        ReportData(
            title=config.name,
            evidence=evidence(compared),
            question=question(config.task),
            description=config.description,
            cohort=_cohort(extract, data),
            models=tuple(_model(config, name, made) for name, made in trained.items()),
            record=_facts(config, data, extract, trained, run_id),
            config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            made_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        )
    )
    with publish(path(compared).parent) as part:
        (part / "report.html").write_text(page)


def _cohort(extract: Extract, data: Data) -> CohortReport:
    manifest, counted = extract.manifest, summary(data.windows)
    missing = counted["unknown_share"]
    assert isinstance(missing, dict)
    return CohortReport(
        source=manifest.source.name,
        licence=manifest.source.licence,
        counts=manifest.counts,
        attrition=manifest.attrition,
        quarantined=tuple((q.table, q.rule, q.rows) for q in manifest.quarantined),
        parts=_parts(data),
        missing=missing,
    )


def _parts(data: Data) -> pl.DataFrame:
    return pl.DataFrame(
        [_part(name, part) for name, part in zip(("training", "validation", "test"), data.parts(), strict=True)]
    )


def _part(name: str, part: Sequences) -> dict[str, Any]:
    return {
        "part": name,
        "subjects": int(np.unique(part.subject_id).size),
        "stays": len(part),
        "rows": int(part.scored.sum()),
        "events": int(part.y[part.scored].sum()),
    }


def _model(config: ExperimentConfig, name: str, made: Stage) -> ModelReport:
    can = MODELS.get(config.models[name].kind).capabilities
    tuning = read_json(made.folder / "tuning.json")
    trials = [{key: trial[key] for key in _TRIALS} for trial in tuning["trials"]]
    return ModelReport(
        name=name,
        rung=can.rung.value,
        sees=can.sees,
        params=tuning["params"],
        monitored=f"{METRICS.get(config.tuning.metric).label} on the validation subjects",
        trials=pl.DataFrame(trials, schema=_TRIALS),
        tables={file.stem: pl.read_parquet(file) for file in sorted((made.folder / "tables").glob("*.parquet"))},
        seconds=made.seconds,
    )


def _facts(
    config: ExperimentConfig, data: Data, extract: Extract, trained: Mapping[str, Stage], run_id: str
) -> dict[str, dict[str, Any]]:
    around = environment()
    stages = {"extract": data.extract, "windows": data.windows, "split": data.split, **trained}
    return {
        "Run": {"MLflow run": run_id, "seed": config.seed, **code_version()},
        "Fingerprints": {
            "extract": extract.fingerprint,
            "windows": data.windows.key,
            "split": data.subjects().fingerprint,
            **{f"model {name}": made.key for name, made in trained.items()},
        },
        "Versions": {key: around[key] for key in ("python", "platform", "flowsheet")} | around["libraries"],
        "Seconds": {name: made.seconds for name, made in stages.items()},
    }
