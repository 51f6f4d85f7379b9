"""How long a whole extract takes to score and to monitor; one JSON line a figure.

    python benchmarks/batch_scoring.py EXTRACT [--hidden 128] [--fit 1000]

EXTRACT is the folder that ``flowsheet ingest`` made, for example from set A of PhysioNet 2019. An
LSTM of that many units is trained for one pass over the first stays (it is timed, not judged),
registered in a state folder of its own, and its reference is taken from the first half of the
stays. Then every stay is scored, and the second half is monitored. Seconds of CPU are this
process's, all threads together.
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


def quiet(line: str) -> None:
    pass


def part(extract: Extract, folder: Path, low: int, high: int) -> Extract:
    """The stays from ``low`` to ``high`` as an extract of their own."""
    ids = extract.scan("stays").sort("stay_id").select("stay_id").collect()["stay_id"][low:high]
    mine = pl.col("stay_id").is_between(ids.min(), ids.max())
    tables = Tables(**{table: extract.scan(table).filter(mine).collect() for table in TABLES})
    known = Provenance(
        **{name: getattr(extract.manifest, name) for name in Provenance.model_fields}
    )
    return write_extract(tables, folder, known)


def fit(folder: Path, few: Extract, hidden: int) -> ModelPackage:
    tables = few.tables()
    held = {
        "variables": few.manifest.variables,
        "drugs": few.manifest.drugs,
        "vocabulary": collect_vocabulary(tables),
    }
    sequences = build_sequences(
        tables, TASK, FEATURES, held["variables"], held["drugs"], held["vocabulary"]
    )
    scaler = Scaler.fit(sequences)
    scaled = scaler.transform(sequences)
    model = MODELS.get("lstm")(MODELS.get("lstm").Params(epochs=1, hidden=hidden))
    model.fit(scaled, scaled, Context(seed=1))
    (folder / "saved").mkdir(parents=True)
    model.save(folder / "saved")
    return ModelPackage.write(
        folder / "model_package", kind="lstm", model=folder / "saved", scaler=scaler, task=TASK, features=FEATURES,
        columns=held, training_key="b" * 64,
    )  # fmt: skip


def register(model_package: ModelPackage) -> str:
    from flowsheet.tracking.model_registry import register
    from flowsheet.tracking.packaging import log_model
    from flowsheet.tracking.store import artifact_root, connect

    client = connect()
    run = client.create_run(client.create_experiment("bench", artifact_root())).info.run_id
    return f"bench/{register('bench', run, log_model(run, model_package.folder), model_package.training_key)}"


def timed(what: str, work: Callable[[], dict]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    told = work()
    seconds = {
        "cpu_s": round(time.process_time() - cpu, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"what": what, **told, **seconds, "peak_mib": peak}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extract", type=Path)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--fit", type=int, default=1000)
    given = parser.parse_args()
    whole = Extract.open(given.extract)
    half = whole.manifest.tables["stays"].rows // 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FLOWSHEET_HOME"] = str(folder / "home")
        model_package = fit(folder, part(whole, folder / "few", 0, given.fit), given.hidden)
        first, second = (
            part(whole, folder / "first", 0, half),
            part(whole, folder / "second", half, 2 * half),
        )

        def refer() -> dict:
            made = Reference.from_profile(
                *collect_current_data(model_package, first, quiet), "train"
            )
            made.save(model_package.folder / "reference")
            size = (model_package.folder / "reference" / "reference.json").stat().st_size
            return {"stays": made.stays, "bytes": size}

        def watch() -> dict:
            done = monitor(model, second.path, quiet, MonitoringConfig(name="standard"))
            return {
                "stays": done.stays,
                "tests": done.tests,
                "flags": [flag.summary for flag in done.flags],
            }

        def scored(path: Path) -> dict:
            done = score(model, path, None, quiet)
            return {"stays": done.stays, "steps": done.steps, "reused": done.stage.reused}

        timed("reference", refer)
        model = register(model_package)
        timed("score", lambda: scored(whole.path))
        timed("score again", lambda: scored(whole.path))
        timed("monitor", watch)


if __name__ == "__main__":
    main()
