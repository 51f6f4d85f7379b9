"""Ingest of MIMIC-III's raw tables, compared with only reading the same files.

Prints one JSON line per method.

Run: python benchmarks/ingest_mimic3.py FOLDER [METHOD ...]

Methods; each runs in a process of its own, so that its peak memory is its own:

- "read": decompress and parse, as text, the columns that the ingest needs of every table, and drop
  them: Intel's ISA-L in one thread and pyarrow's streaming parser in others, the fastest pair that
  we know.
- "read all": the same with every column.
- "polars": polars' streaming engine over the needed columns; it counts the cells.
- "ingest": from raw tables to a validated, labelled extract.
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


def find_files(folder: Path) -> list[Any]:
    from flowsheet.cohort.engine.database import load_database
    from flowsheet.cohort.engine.files import find_tables

    database = load_database("mimic3")
    names = tuple(name for name in database.tables if name != "services")
    tables = find_tables(database, folder, names, None, 8 << 20)
    return [file for table in tables.values() for file in table.files]


def count_rows(file: Any, needed_columns_only: bool) -> int:
    import pyarrow as pa
    import pyarrow.csv
    from isal import igzip_threaded

    from flowsheet.cohort.engine.files import read_header

    columns = list(file.columns.values()) if needed_columns_only else read_header(file.path)
    types = dict.fromkeys(columns, pa.binary())
    convert = pa.csv.ConvertOptions(include_columns=columns, column_types=types, check_utf8=False)
    stream = str(file.path)
    if file.path.suffix == ".gz":
        stream = pa.PythonFile(igzip_threaded.open(file.path, "rb", threads=1), "r")
    options = pa.csv.ReadOptions(block_size=8 << 20)
    batches = pa.csv.open_csv(stream, read_options=options, convert_options=convert)
    return sum(batch.num_rows for batch in batches)


def read(folder: Path, out: Path) -> dict[str, Any]:
    files = find_files(folder)
    return {"rows": sum(count_rows(file, needed_columns_only=True) for file in files)}


def read_all(folder: Path, out: Path) -> dict[str, Any]:
    files = find_files(folder)
    return {"rows": sum(count_rows(file, needed_columns_only=False) for file in files)}


def read_with_polars(folder: Path, out: Path) -> dict[str, Any]:
    import polars as pl

    rows = 0
    for file in find_files(folder):
        scan = pl.scan_csv(file.path, infer_schema=False, encoding="utf8-lossy")
        cells = scan.select(file.columns.values()).select(pl.len(), pl.all().count())
        rows += cells.collect(engine="streaming").item(0, 0)
    return {"rows": rows}


def ingest(folder: Path, out: Path) -> dict[str, Any]:
    from flowsheet.cohort.ingest import ingest as ingest_source
    from flowsheet.cohort.ingest import make_source
    from flowsheet.compose import compose_cohort

    os.environ["FLOWSHEET_HOME"] = str(out / "home")
    config = compose_cohort("mimic3", [f"cohort.path={folder}"])
    start = time.perf_counter()
    source = make_source(config)
    source.fingerprint()
    fingerprint_seconds = round(time.perf_counter() - start, 1)
    extract = ingest_source(source, config, out / "extract", lambda line: None)
    return {"fingerprint_seconds": fingerprint_seconds, **extract.manifest.counts}


Method = Callable[[Path, Path], dict[str, Any]]

METHODS: dict[str, Method] = {
    "read": read,
    "read all": read_all,
    "polars": read_with_polars,
    "ingest": ingest,
}


def measure(name: str, folder: Path, out: Path) -> None:
    """Run a method and print its seconds and its peak memory."""
    start = time.perf_counter()
    processor_start = time.process_time()
    result = METHODS[name](folder, out)
    figures = {
        "method": name,
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - processor_start, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures | result), flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    for name in sys.argv[2:] or METHODS:
        with tempfile.TemporaryDirectory(dir=os.environ.get("FLOWSHEET_BENCH_TMP")) as out:
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=measure, args=(name, folder, Path(out)))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
