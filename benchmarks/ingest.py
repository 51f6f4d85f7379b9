"""Ingest of PhysioNet 2019 training set A, beside what one would write with pandas. One JSON line a
figure.

Run: python benchmarks/ingest.py training_setA.zip Each way runs in a process of its own, so that
its peak memory is its own. The pandas way reads every psv, joins them and writes one Parquet file;
it checks nothing.
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


def flowsheet_way(path: Path, out: Path) -> dict[str, Any]:
    from flowsheet.cohort.ingest import ingest, make_source
    from flowsheet.compose import compose_cohort

    config = compose_cohort("physionet2019", [f"cohort.path={path}"])
    extract = ingest(make_source(config), config, out / "extract", lambda line: None)
    return dict(extract.manifest.counts)


def validation(path: Path, out: Path) -> dict[str, Any]:
    from flowsheet.cohort.extract import check_extract

    return {"failures": check_extract(out / "extract").height}


def pandas_way(path: Path, out: Path) -> dict[str, Any]:
    import pandas as pd

    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".psv"))
        frames = [
            pd.read_csv(archive.open(name), sep="|").assign(patient=int(name[-10:-4]))
            for name in names
        ]
    table = pd.concat(frames, ignore_index=True)
    table.to_parquet(out / "table.parquet")
    return {"rows": len(table)}


def measure(name: str, way: Callable[[Path, Path], dict[str, Any]], path: Path, out: Path) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    result = way(path, out)
    figures = {
        "way": name,
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures | result), flush=True)


def main() -> None:
    path = Path(sys.argv[1])
    ways = {
        "flowsheet ingest": flowsheet_way,
        "flowsheet validate": validation,
        "pandas": pandas_way,
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
