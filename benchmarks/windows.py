"""Windows of PhysioNet 2019 training set A, beside the same table made with pandas. One JSON line a
figure.

Run: python benchmarks/windows.py EXTRACT     (a folder with a manifest.json, as `flowsheet ingest`
leaves it) Both ways start from the extract's Parquet files and end with one float32 matrix in
memory, each in a process of its own, so that its peak memory is its own. The pandas way leans on
the data being hourly, the columns fixed and each fact known at once; it knows no late arrival, no
cut-off and no episode. At the end a sample of rows is compared column by column.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CARRY_HOURS = 48


def flowsheet_way(folder: Path) -> tuple[list[str], np.ndarray]:
    from flowsheet.cohort.extract import Extract
    from flowsheet.config import Censor, FeaturesConfig, TaskConfig
    from flowsheet.windows.build import build_sequences, collect_vocabulary

    extract = Extract.open(folder)
    tables = extract.tables()
    task = TaskConfig(name="early_warning", step_hours=1, horizon=6, censor=Censor.keep)
    features = FeaturesConfig(name="standard", carry_forward_hours=CARRY_HOURS)
    variables, drugs = extract.manifest.variables, extract.manifest.drugs
    made = build_sequences(tables, task, features, variables, drugs, collect_vocabulary(tables))
    return [feature.name for feature in made.features], made.x


def pandas_way(folder: Path) -> tuple[list[str], np.ndarray]:
    import pandas as pd

    variables = json.loads((folder / "manifest.json").read_text())["variables"]
    stays = pd.read_parquet(folder / "stays.parquet").set_index("stay_id").sort_index()
    events = pd.read_parquet(folder / "events.parquet")
    hour = pd.Timedelta(hours=1)

    begun = stays["observed_from"].fillna(stays["admitted_at"])
    first = ((begun - stays["admitted_at"]) // hour + 1).astype(int)
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
    seen = grid.notna()
    at = seen.mul(step.to_numpy(), axis=0).where(seen).groupby(level=0).ffill()
    since = at.rsub(step.to_numpy(), axis=0)
    value = grid.groupby(level=0).ffill().where(since <= CARRY_HOURS)

    static = stays[["age"]].copy()
    for name in ("sex", "unit"):
        for category in sorted(stays[name].dropna().unique()):
            static[f"{name}={category}"] = (stays[name] == category).astype(float)
    static["hours_in_hospital"] = (stays["admitted_at"] - stays["hospital_admitted_at"]) / hour
    static = static.reindex(rows).set_axis(index)
    table = pd.concat(
        [
            value.add_suffix("_last"),
            (~seen).add_suffix("_missing"),
            since.add_suffix("_since"),
            static,
            pd.DataFrame({"hours": step.to_numpy()}, index=index),
        ],
        axis=1,
    )
    return list(table.columns), table.to_numpy(np.float32)


def measure(name: str, folder: Path, out: Path) -> None:
    way = {"flowsheet": flowsheet_way, "pandas": pandas_way}[name]
    wall, processor = time.perf_counter(), time.process_time()
    columns, x = way(folder)
    figures = {
        "way": name,
        "rows": len(x),
        "features": len(columns),
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures), flush=True)
    np.save(out / f"{name}.npy", x)
    (out / f"{name}.json").write_text(json.dumps(columns))


def agreement(out: Path) -> dict[str, object]:
    columns, others = (
        json.loads((out / f"{name}.json").read_text()) for name in ("flowsheet", "pandas")
    )
    if columns != others:
        raise SystemExit(f"the columns differ: {sorted(set(columns) ^ set(others))}")
    x, other = (np.load(out / f"{name}.npy", mmap_mode="r") for name in ("flowsheet", "pandas"))
    rows = np.sort(np.random.default_rng(1).choice(len(x), min(len(x), 100_000), replace=False))
    np.testing.assert_allclose(x[rows], other[rows], rtol=1e-6)
    return {"agree": True, "rows_compared": len(rows), "shape": list(x.shape)}


def main() -> None:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as out:
        for name in ("flowsheet", "pandas"):
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(name, folder, Path(out))
            )
            process.start()
            process.join()
        print(json.dumps(agreement(Path(out))))


if __name__ == "__main__":
    main()
