"""Benchmark: ingest of PhysioNet 2019 training set A, and the same reading with pandas.

Run: python benchmarks/ingest.py training_setA.zip

One JSON line per way. Each way runs in its own process, so that the peak memory is its own. The
pandas way reads every psv file, joins them and writes one Parquet file; it does not validate.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Way = Callable[[Path, Path], dict[str, Any]]


def ingest_with_flowsheet(path: Path, out: Path) -> dict[str, Any]:
    from flowsheet.cohort.ingest import ingest, make_source
    from flowsheet.compose import compose_cohort

    config = compose_cohort("physionet2019", [f"cohort.path={path}"])
    extract = ingest(make_source(config), config, out / "extract", lambda line: None)
    return dict(extract.manifest.counts)


def validate_with_flowsheet(path: Path, out: Path) -> dict[str, Any]:
    from flowsheet.cohort.extract import check_extract

    return {"failures": check_extract(out / "extract").height}


def convert_with_pandas(path: Path, out: Path) -> dict[str, Any]:
    import pandas as pd

    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".psv"))
        frames = [
            pd.read_csv(archive.open(name), sep="|").assign(patient=int(name[-10:-4]))
            for name in names
        ]
    table = pd.concat(frames, ignore_index=True)
    table.to_parquet(out / "table.parquet")
    return {"rows": len(table)}


def measure(name: str, way: Way, path: Path, out: Path) -> None:
    start = time.perf_counter()
    cpu_start = time.process_time()
    result = way(path, out)
    figures = {
        "way": name,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu_start, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures | result), flush=True)


def main() -> None:
    path = Path(sys.argv[1])
    ways = {
        "flowsheet ingest": ingest_with_flowsheet,
        "flowsheet validate": validate_with_flowsheet,
        "pandas": convert_with_pandas,
    }
    with tempfile.TemporaryDirectory() as out:
        for name, way in ways.items():
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(name, way, path, Path(out))
            )
            process.start()
            process.join()


if __name__ == "__main__":
    main()
