"""The whole path, from raw tables to scores, at several sizes of a ward: time, memory and bytes.

    python benchmarks/full_path.py FOLDER [--sizes 0.01,0.1,1] [--features standard] [--workers 2]
        [--models logistic_regression,gradient_boosting,gru,lstm]

A size of 1 is that of MIMIC-III: 61,532 ICU stays, simulated, in raw tables of MIMIC-III's format.
The question is sepsis within six hours, asked every hour. FOLDER keeps what the stages write, and
a stage that has been measured there is not measured again: remove FOLDER to begin anew.

Each stage runs in a process of its own, with as many worker processes as an experiment would have.
``peak_mb`` is the memory of all its processes together: the sum of their proportional set sizes
(Pss in /proc/PID/smaps_rollup), sampled twice a second, in which a page that several processes
share counts once; ``peak_anonymous_mb`` leaves out the pages of mapped files, which the system can
drop. ``read`` only reads the Parquet files of the extract with polars. The last lines are the
exponents of the growth between the smallest and the largest size (1 is linear), and the seconds,
processor seconds and bytes of a million stays by the straight line through the sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

STAYS = 61_532
"""Of MIMIC-III 1.4 (Johnson et al. 2016, doi 10.1038/sdata.2016.35)."""
SECONDS_BETWEEN_SAMPLES = 0.5
EXPERIMENT = "full_path.yaml"
Figures = dict[str, Any]


def write_experiment(folder: Path, settings: Figures) -> None:
    lines = [
        "cohort: mimic3",
        "task: early_warning",
        f"features: {settings['features']}",
        f"models: [{', '.join(settings['models'])}]",
        "floor: false",
        "tuning: none",
        "evaluation: holdout",
        "compute: local",
    ]
    (folder / EXPERIMENT).write_text("\n".join(lines), encoding="utf-8")


def make_config(folder: Path) -> Any:
    from flowsheet.compose import compose

    return compose(str(folder / EXPERIMENT), [f"cohort.path={folder / 'raw'}"])


def load_stage(folder: Path, name: str) -> Any:
    from flowsheet.lifecycle.experiment.stage import Stage

    return Stage.model_validate_json((folder / f"{name}.json").read_text(encoding="utf-8"))


def save_stage(folder: Path, name: str, stage: Any) -> None:
    (folder / f"{name}.json").write_text(stage.model_dump_json(), encoding="utf-8")


def simulate(folder: Path, settings: Figures) -> Figures:
    from flowsheet.cli import cli

    stays = str(round(settings["size"] * STAYS))
    command = ["simulate", str(folder / "raw"), "--as", "mimic3", "--stays", stays]
    cli.main(command, standalone_mode=False)
    return {"bytes": count_bytes(folder / "raw")}


def ingest(folder: Path, settings: Figures) -> Figures:
    from flowsheet.lifecycle.runtime.tuning import keep_freed_memory

    keep_freed_memory()

    from flowsheet.lifecycle.experiment.prepare import ingest_cohort, open_extract

    stage = ingest_cohort(make_config(folder).cohort, lambda line: None)
    save_stage(folder, "extract", stage)
    counts = open_extract(stage).manifest.counts
    return {"bytes": count_bytes(Path(stage.path)), "stays": counts["stays"]}


def read(folder: Path, settings: Figures) -> Figures:
    import polars as pl

    rows = 0
    for file in sorted(load_stage(folder, "extract").folder.rglob("*.parquet")):
        counts = pl.scan_parquet(file).select(pl.len(), pl.all().count().name.prefix("n_"))
        rows += counts.collect(engine="streaming")["len"].item()
    return {"rows": rows}


def windows(folder: Path, settings: Figures) -> Figures:
    from flowsheet.lifecycle.experiment import prepare

    config = make_config(folder)
    extract = load_stage(folder, "extract")
    before = count_bytes(Path(extract.path).parents[1])
    stage = prepare.build_windows(extract, config.task, config.features)
    written = count_bytes(Path(extract.path).parents[1]) - before
    save_stage(folder, "windows", stage)
    split = prepare.split_subjects(extract, stage, config.evaluation, config.seed)
    save_stage(folder, "split", split)
    summary = prepare.load_summary(stage)
    rows, columns = summary["rows"], summary["features"]
    return {"bytes": written, "rows": rows, "columns": columns, "bytes_a_row": written / rows}


def plan(folder: Path) -> Any:
    from flowsheet.lifecycle.experiment.folds import plan_folds

    stages = [load_stage(folder, name) for name in ("extract", "windows", "split")]
    return plan_folds(make_config(folder), *stages)


def train_one(folder: Path, settings: Figures, model: str) -> float:
    from flowsheet.lifecycle.experiment.train import train_model

    fold = plan(folder).first_fold
    stage = train_model(fold.config, model, fold.data, lambda t: None, lambda line: None)
    save_stage(folder, model, stage)
    return float(stage.seconds)


def train(folder: Path, settings: Figures) -> Figures:
    models = settings["models"]
    with ProcessPoolExecutor(settings["workers"], mp_context=get_context("spawn")) as pool:
        runs = {model: pool.submit(train_one, folder, settings, model) for model in models}
        return {f"seconds_of_{model}": round(run.result(), 1) for model, run in runs.items()}


def evaluate(folder: Path, settings: Figures) -> Figures:
    from flowsheet.lifecycle.experiment.evaluate import evaluate_models, load_evidence

    trained = {"": {model: load_stage(folder, model) for model in settings["models"]}}
    stage = evaluate_models(make_config(folder), plan(folder), trained)
    metrics = {model: load_evidence(stage).metrics(model) for model in settings["models"]}
    return {f"auroc_of_{model}": round(m["test.auroc"], 4) for model, m in metrics.items()}


def score(folder: Path, settings: Figures) -> Figures:
    from flowsheet.lifecycle.experiment.extract_batches import iter_batches
    from flowsheet.lifecycle.experiment.prepare import open_extract
    from flowsheet.prediction.model_package import ModelPackage

    trained = load_stage(folder, settings["models"][-1])
    package = ModelPackage.load(trained.folder / "model_package")
    extract = open_extract(load_stage(folder, "extract"))
    rows = sum(package.predict(tables).height for tables in iter_batches(extract))
    return {"rows": rows}


STAGES: dict[str, Callable[[Path, Figures], Figures]] = {
    "simulate": simulate,
    "ingest": ingest,
    "read": read,
    "windows": windows,
    "train": train,
    "evaluate": evaluate,
    "score": score,
}


def count_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def list_processes(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def read_memory(pid: int) -> tuple[int, int]:
    """Pss and its anonymous part, in kB, of a process and all below it."""
    total, anonymous = 0, 0
    for process in list_processes(pid):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        except OSError:  # it has ended
            continue
        fields = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        total += fields["Pss:"]
        anonymous += fields.get("Pss_Anon:", 0)
    return total, anonymous


def measure(stage: str, folder: Path, settings: Figures) -> Figures:
    """Run a stage in a child process, and sample its memory."""
    command = [sys.executable, __file__, "--run", stage, str(folder), json.dumps(settings)]
    environment = {**os.environ, "FLOWSHEET_HOME": str(folder / "home")}
    start = time.perf_counter()
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    samples = [(0, 0)]
    has_ended = threading.Event()

    def sample() -> None:
        while not has_ended.wait(SECONDS_BETWEEN_SAMPLES):
            samples.append(read_memory(child.pid))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    assert child.stdout is not None
    output = child.stdout.read().strip().splitlines()  # the stage's figures are the last line
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    has_ended.set()
    if child.returncode:
        raise SystemExit(f"{stage} ended with {child.returncode}: {output[-3:]}")
    return {
        "stage": stage,
        "size": settings["size"],
        "seconds": round(time.perf_counter() - start, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(max(total for total, _ in samples) / 1024),
        "peak_anonymous_mb": round(max(anonymous for _, anonymous in samples) / 1024),
        **json.loads(output[-1]),
    }


def measure_once(stage: str, folder: Path, settings: Figures) -> Figures:
    """The figures of a stage, measured now or before."""
    file = folder / f"figures-{stage}.json"
    if not file.exists():
        file.write_text(json.dumps(measure(stage, folder, settings)), encoding="utf-8")
    figures: Figures = json.loads(file.read_text(encoding="utf-8"))
    print(json.dumps(figures), flush=True)
    return figures


def fit_growth(runs: list[Figures]) -> Figures:
    """The exponent from the smallest to the largest size, and the line for a million stays."""
    stays = np.array([run["size"] * STAYS for run in runs])
    growth: Figures = {"stage": runs[0]["stage"]}
    for kind in ("seconds", "processor_seconds", "peak_mb", "bytes"):
        if not all(kind in run for run in runs):
            continue
        values = np.array([run[kind] for run in runs], float)
        exponent = np.log(values[-1] / values[0]) / np.log(stays[-1] / stays[0])
        slope, intercept = np.polyfit(stays, values, 1)
        growth[f"exponent_of_{kind}"] = round(float(exponent), 3)
        growth[f"{kind}_of_a_million"] = round(float(slope * 1e6 + intercept))
    return growth


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="0.01,0.1,1")
    parser.add_argument("--features", default="standard")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--models", default="logistic_regression,gradient_boosting,gru,lstm")
    arguments = parser.parse_args()
    runs: dict[str, list[Figures]] = {stage: [] for stage in STAGES}
    for size in sorted(map(float, arguments.sizes.split(","))):
        folder = arguments.folder.resolve() / f"size-{size:g}"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "size": size,
            "features": arguments.features,
            "workers": arguments.workers,
            "models": arguments.models.split(","),
        }
        write_experiment(folder, settings)
        for stage, of_stage in runs.items():
            of_stage.append(measure_once(stage, folder, settings))
    if len(arguments.sizes.split(",")) > 1:
        for of_stage in runs.values():
            print(json.dumps(fit_growth(of_stage)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--run":
        result = STAGES[sys.argv[2]](Path(sys.argv[3]), json.loads(sys.argv[4]))
        print(json.dumps(result), flush=True)
    else:
        main()
