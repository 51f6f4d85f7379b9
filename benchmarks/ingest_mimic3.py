"""MIMIC-III's raw tables: flowsheet's ingest beside only reading the same files. One JSON line a
figure.

Run: python benchmarks/ingest_mimic3.py FOLDER [WAY ...]
Ways, each in a process of its own so that its peak memory is its own:

- "read": decompress and parse the columns that ingest needs of every table, as text, and drop them:
  Intel's ISA-L in one thread, pyarrow's streaming parser in others, the fastest pair we know.
- "read all": the same with every column, as a reader without a plan does.
- "polars": polars' streaming engine over the needed columns, counting what is there.
- "ingest": flowsheet's, from raw tables to a validated, labelled extract.
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
from typing import Any


def _tables(folder: Path) -> dict[str, Any]:
    from flowsheet.cohort.sources.mimic3 import files

    return files.find_tables(folder, tuple(name for name in files.TABLES if name != "services"))


def _read(table: Any, needed: bool) -> int:
    import pyarrow as pa
    import pyarrow.csv
    from isal import igzip_threaded

    from flowsheet.cohort.sources.mimic3 import files

    spelled = list(table.columns.values()) if needed else files.read_header(table.path)
    types = dict.fromkeys(spelled, pa.binary())
    convert = pa.csv.ConvertOptions(include_columns=spelled, column_types=types, check_utf8=False)
    gzipped = table.path.suffix == ".gz"
    stream = (
        pa.PythonFile(igzip_threaded.open(table.path, "rb", threads=1), "r")
        if gzipped
        else str(table.path)
    )
    options = pa.csv.ReadOptions(block_size=8 << 20)
    return sum(
        batch.num_rows
        for batch in pa.csv.open_csv(stream, read_options=options, convert_options=convert)
    )


def read(folder: Path, out: Path) -> dict[str, Any]:
    return {"rows": sum(_read(table, needed=True) for table in _tables(folder).values())}


def read_all(folder: Path, out: Path) -> dict[str, Any]:
    return {"rows": sum(_read(table, needed=False) for table in _tables(folder).values())}


def polars_way(folder: Path, out: Path) -> dict[str, Any]:
    import polars as pl

    rows = 0
    for table in _tables(folder).values():
        scan = pl.scan_csv(table.path, infer_schema=False, encoding="utf8-lossy").select(
            table.columns.values()
        )
        rows += scan.select(pl.len(), pl.all().count()).collect(engine="streaming").item(0, 0)
    return {"rows": rows}


def ingest_way(folder: Path, out: Path) -> dict[str, Any]:
    from flowsheet.cohort.ingest import ingest, make_source
    from flowsheet.compose import compose_cohort

    os.environ["FLOWSHEET_HOME"] = str(out / "home")
    config = compose_cohort("mimic3", [f"cohort.path={folder}"])
    started = time.perf_counter()
    source = make_source(config)
    source.fingerprint()
    hashed = time.perf_counter() - started
    extract = ingest(source, config, out / "extract", lambda line: None)
    return {"fingerprint_seconds": round(hashed, 1), **extract.manifest.counts}


def measure(
    name: str, way: Callable[[Path, Path], dict[str, Any]], folder: Path, out: Path
) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    result = way(folder, out)
    figures = {
        "way": name,
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures | result), flush=True)


WAYS = {"read": read, "read all": read_all, "polars": polars_way, "ingest": ingest_way}


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(WAYS)
    for name in names:
        with tempfile.TemporaryDirectory(dir=os.environ.get("FLOWSHEET_BENCH_TMP")) as out:
            arguments = (name, WAYS[name], folder, Path(out))
            process = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
            process.start()
            process.join()


if __name__ == "__main__":
    main()
