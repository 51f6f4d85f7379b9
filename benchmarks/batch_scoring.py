"""Benchmark of batch scoring and monitoring on a whole cohort extract; one JSON line a measurement.

    python benchmarks/batch_scoring.py EXTRACT [--hidden 128] [--fit 1000]

EXTRACT is a folder that ``flowsheet ingest`` wrote, for example from set A of PhysioNet 2019. An
LSTM is trained for one epoch on the first stays and registered in a temporary state folder (only
times matter, not its accuracy). The first half of the stays becomes its training reference. Then
all stays are scored, and the second half is monitored. CPU seconds are those of all threads of
this process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract, Provenance
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.writer import write_extract
from flowsheet.config import FeaturesConfig, MonitoringConfig, TaskConfig
from flowsheet.lifecycle.deployment.batch_scoring import score
from flowsheet.lifecycle.deployment.monitoring import monitor
from flowsheet.lifecycle.experiment.reference_data import collect_current_data
from flowsheet.models.base import MODELS, Context
from flowsheet.monitoring.reference import Reference
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.scaling import Scaler

TASK = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor="keep")
FEATURES = FeaturesConfig(name="standard")
TRAINING_KEY = "b" * 64


def ignore_progress(line: str) -> None:
    pass


def select_stays(extract: Extract, folder: Path, start: int, stop: int) -> Extract:
    """Write the stays at the positions from ``start`` to ``stop`` as another extract."""
    stay_ids = extract.scan("stays").select("stay_id").sort("stay_id").collect()["stay_id"]
    selected = stay_ids[start:stop]
    is_selected = pl.col("stay_id").is_between(selected.min(), selected.max())
    tables = {table: extract.scan(table).filter(is_selected).collect() for table in TABLES}
    fields = {name: getattr(extract.manifest, name) for name in Provenance.model_fields}
    return write_extract(Tables(**tables), folder, Provenance(**fields))


def fit_lstm(folder: Path, extract: Extract, hidden: int) -> ModelPackage:
    tables = extract.tables()
    variables, drugs = extract.manifest.variables, extract.manifest.drugs
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(tables, TASK, FEATURES, variables, drugs, vocabulary)
    scaler = Scaler.fit(sequences)
    scaled = scaler.transform(sequences)
    lstm = MODELS.get("lstm")
    model = lstm(lstm.Params(epochs=1, hidden=hidden))
    model.fit(scaled, scaled, Context(seed=1))
    weights = folder / "weights"
    weights.mkdir(parents=True)
    model.save(weights)
    return ModelPackage.write(
        folder / "model_package",
        kind="lstm",
        model=weights,
        scaler=scaler,
        task=TASK,
        features=FEATURES,
        columns={"variables": variables, "drugs": drugs, "vocabulary": vocabulary},
        training_key=TRAINING_KEY,
    )


def register(model_package: ModelPackage) -> str:
    """Register the model package; returns ``NAME/VERSION``."""
    from flowsheet.tracking import model_registry
    from flowsheet.tracking.packaging import log_model
    from flowsheet.tracking.store import artifact_root, connect

    client = connect()
    experiment = client.create_experiment("benchmark", artifact_root())
    run_id = client.create_run(experiment).info.run_id
    uri = log_model(run_id, model_package.folder)
    version = model_registry.register("benchmark", run_id, uri, TRAINING_KEY)
    return f"benchmark/{version}"


def measure(name: str, work: Callable[[], dict]) -> None:
    """Print what ``work`` returns with its duration and the process's peak memory."""
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    result = work()
    measured = {
        "cpu_s": round(time.process_time() - cpu_start, 1),
        "wall_s": round(time.perf_counter() - wall_start, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    print(json.dumps({"what": name, **result, **measured}), flush=True)


def make_reference(model_package: ModelPackage, extract: Extract) -> dict:
    """Add a training reference to the model package."""
    current = collect_current_data(model_package, extract, ignore_progress)
    reference = Reference.from_profile(*current, "train")
    folder = model_package.folder / "reference"
    reference.save(folder)
    return {"stays": reference.stays, "bytes": (folder / "reference.json").stat().st_size}


def score_extract(model: str, extract: Extract) -> dict:
    result = score(model, extract.path, None, ignore_progress)
    return {"stays": result.stays, "steps": result.steps, "reused": result.stage.reused}


def monitor_extract(model: str, extract: Extract) -> dict:
    config = MonitoringConfig(name="standard")
    result = monitor(model, extract.path, ignore_progress, config)
    summaries = [flag.summary for flag in result.flags]
    return {"stays": result.stays, "tests": result.tests, "flags": summaries}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extract", type=Path)
    parser.add_argument("--hidden", type=int, default=128, help="units of the LSTM")
    parser.add_argument("--fit", type=int, default=1000, help="stays in training")
    arguments = parser.parse_args()
    extract = Extract.open(arguments.extract)
    half = extract.manifest.tables["stays"].rows // 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["FLOWSHEET_HOME"] = str(folder / "home")
        training = select_stays(extract, folder / "training", 0, arguments.fit)
        model_package = fit_lstm(folder, training, arguments.hidden)
        first_half = select_stays(extract, folder / "first_half", 0, half)
        second_half = select_stays(extract, folder / "second_half", half, 2 * half)
        measure("reference", lambda: make_reference(model_package, first_half))
        model = register(model_package)
        measure("score", lambda: score_extract(model, extract))
        measure("score again", lambda: score_extract(model, extract))
        measure("monitor", lambda: monitor_extract(model, second_half))


if __name__ == "__main__":
    main()
