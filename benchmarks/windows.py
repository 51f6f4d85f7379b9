"""Time and memory to build the windows of PhysioNet 2019 training set A, compared with pandas.

Run: python benchmarks/windows.py EXTRACT     (a folder that `flowsheet ingest` wrote)

Both implementations read the Parquet files of the extract and build one float32 matrix in memory,
each in a separate process, so that its peak memory can be measured. The pandas implementation
relies on hourly data, fixed columns and events that are known at once; it supports no late
arrivals, cut-offs or episodes. At the end a sample of rows is compared column by column.

Then the windows of an experiment are built and stored in shards, with every aggregation: the bytes
of a row beside those in memory, and what windows cost when 1% of the stays are new, beside all of
them. Any extract serves for this part alone: python benchmarks/windows.py EXTRACT --shards

The output has one JSON object a line.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CARRY_FORWARD_HOURS = 48


def build_with_flowsheet(folder: Path) -> tuple[list[str], np.ndarray]:
    from flowsheet.cohort.extract import Extract
    from flowsheet.config import Censor, FeaturesConfig, TaskConfig
    from flowsheet.windows.build import build_sequences, collect_vocabulary

    extract = Extract.open(folder)
    tables = extract.tables()
    task = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor=Censor.keep)
    features = FeaturesConfig(name="standard", carry_forward_hours=CARRY_FORWARD_HOURS)
    variables, drugs = extract.manifest.variables, extract.manifest.drugs
    vocabulary = collect_vocabulary(tables)
    sequences = build_sequences(tables, task, features, variables, drugs, vocabulary)
    return [feature.name for feature in sequences.features], sequences.x


def build_with_pandas(folder: Path) -> tuple[list[str], np.ndarray]:
    import pandas as pd

    variables = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["variables"]
    stays = pd.read_parquet(folder / "stays.parquet").set_index("stay_id").sort_index()
    events = pd.read_parquet(folder / "events.parquet")
    hour = pd.Timedelta(hours=1)

    record_start = stays["observed_from"].fillna(stays["admitted_at"])
    first = ((record_start - stays["admitted_at"]) // hour + 1).astype(int)
    last = np.ceil((stays["discharged_at"] - stays["admitted_at"]) / hour).astype(int)
    rows = stays.index.repeat(last - first + 1)
    step = pd.Series(first.reindex(rows).to_numpy(), index=rows)
    step += step.groupby(level=0).cumcount()
    index = pd.MultiIndex.from_arrays([rows, step], names=["stay_id", "step"])

    admitted = events["stay_id"].map(stays["admitted_at"])
    events["step"] = np.ceil((events["time"] - admitted) / hour).astype(int)
    grid = events.pivot_table(
        index=["stay_id", "step"], columns="variable", values="value", aggfunc="last", observed=True
    )
    grid = grid.reindex(index=index, columns=variables)
    is_measured = grid.notna()
    measured_step = is_measured.mul(step.to_numpy(), axis=0).where(is_measured)
    since = measured_step.groupby(level=0).ffill().rsub(step.to_numpy(), axis=0)
    value = grid.groupby(level=0).ffill().where(since <= CARRY_FORWARD_HOURS)

    static = stays[["age"]].copy()
    for name in ("sex", "unit"):
        for category in sorted(stays[name].dropna().unique()):
            static[f"{name}={category}"] = (stays[name] == category).astype(float)
    static["hours_in_hospital"] = (stays["admitted_at"] - stays["hospital_admitted_at"]) / hour
    static = static.reindex(rows).set_axis(index)
    table = pd.concat(
        [
            value.add_suffix("_last"),
            (~is_measured).add_suffix("_missing"),
            since.add_suffix("_since"),
            static,
            pd.DataFrame({"hours": step.to_numpy()}, index=index),
        ],
        axis=1,
    )
    return list(table.columns), table.to_numpy(np.float32)


def measure(name: str, folder: Path, out: Path) -> None:
    build = {"flowsheet": build_with_flowsheet, "pandas": build_with_pandas}[name]
    wall_start = time.perf_counter()
    cpu_start = time.process_time()
    columns, x = build(folder)
    figures = {
        "implementation": name,
        "rows": len(x),
        "features": len(columns),
        "seconds": round(time.perf_counter() - wall_start, 1),
        "cpu_seconds": round(time.process_time() - cpu_start, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures), flush=True)
    np.save(out / f"{name}.npy", x)
    (out / f"{name}.json").write_text(json.dumps(columns), encoding="utf-8")


def check_agreement(out: Path) -> dict[str, object]:
    columns = json.loads((out / "flowsheet.json").read_text(encoding="utf-8"))
    pandas_columns = json.loads((out / "pandas.json").read_text(encoding="utf-8"))
    if columns != pandas_columns:
        raise SystemExit(f"the columns differ: {sorted(set(columns) ^ set(pandas_columns))}")
    x = np.load(out / "flowsheet.npy", mmap_mode="r")
    pandas_x = np.load(out / "pandas.npy", mmap_mode="r")
    rows = np.sort(np.random.default_rng(1).choice(len(x), min(len(x), 100_000), replace=False))
    np.testing.assert_allclose(x[rows], pandas_x[rows], rtol=1e-6)
    return {"agree": True, "rows_compared": len(rows), "shape": list(x.shape)}


def write_most(folder: Path, target: Path) -> None:
    """The extract without 1% of its stays."""
    import polars as pl

    from flowsheet.cohort.extract import Extract, Provenance
    from flowsheet.cohort.schema import Tables
    from flowsheet.cohort.writer import write_extract

    extract = Extract.open(folder)
    tables = vars(extract.tables())
    new = tables["stays"]["stay_id"].sort().sample(fraction=0.01, seed=1).implode()
    most = {name: rows.filter(~pl.col("stay_id").is_in(new)) for name, rows in tables.items()}
    provenance = {name: getattr(extract.manifest, name) for name in Provenance.model_fields}
    write_extract(Tables(**most), target, Provenance(**provenance))


def measure_shards(name: str, folder: Path, home: Path) -> None:
    """Build and store the windows of an extract."""
    from flowsheet.cohort.extract import Extract
    from flowsheet.config import Censor, FeaturesConfig, TaskConfig
    from flowsheet.lifecycle.experiment.prepare import build_extract_windows, load_summary

    os.environ["FLOWSHEET_HOME"] = str(home)
    task = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor=Censor.keep)
    features = FeaturesConfig(
        name="all",
        aggregations=("last", "mean", "min", "max", "count"),
        carry_forward_hours=CARRY_FORWARD_HOURS,
    )
    extract = Extract.open(folder)
    wall_start = time.perf_counter()
    cpu_start = time.process_time()
    windows = build_extract_windows(extract, task, features)
    seconds = time.perf_counter() - wall_start
    cpu_seconds = time.process_time() - cpu_start
    summary = load_summary(windows)
    rows, columns = int(str(summary["rows"])), int(str(summary["features"]))
    store = Path(windows.path).parents[1]
    stored = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    figures = {
        "windows": name,
        "rows": rows,
        "features": columns,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "bytes_a_row": round(stored / rows),
        "bytes_a_row_in_memory": 4 * columns,
    }
    print(json.dumps(figures), flush=True)
    (home / f"{name}.json").write_text(json.dumps([seconds, cpu_seconds]), encoding="utf-8")


def compare_shards(folder: Path, out: Path) -> dict[str, object]:
    """The cost of 1% new stays, as a share of the cost of all."""
    run(write_most, folder, out / "most")
    kept, fresh = out / "kept", out / "fresh"
    for name, extract, home in (
        ("all but 1%", out / "most", kept),
        ("1% new", folder, kept),
        ("all", folder, fresh),
    ):
        home.mkdir(exist_ok=True)
        run(measure_shards, name, extract, home)
    new, whole = (
        json.loads((home / f"{name}.json").read_text(encoding="utf-8"))
        for home, name in ((kept, "1% new"), (fresh, "all"))
    )
    return {
        "cost_of_new_stays": round(new[0] / whole[0], 3),
        "cpu_cost_of_new_stays": round(new[1] / whole[1], 3),
    }


def run(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()


def main() -> None:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as out:
        if "--shards" not in sys.argv:
            for name in ("flowsheet", "pandas"):
                run(measure, name, folder, Path(out))
            print(json.dumps(check_agreement(Path(out))))
        print(json.dumps(compare_shards(folder, Path(out))))


if __name__ == "__main__":
    main()
