"""Ingest of a database at full size, compared with only decompressing and parsing its files.

Prints JSON lines.

    flowsheet simulate raw_1 --as mimic3 --stays 615 raw.truth=false
    python benchmarks/full_size.py raw_1 raw_10 raw_100
    python benchmarks/full_size.py raw_1 raw_10 --methods polars,ingest --repeats 3

    flowsheet simulate raw4_1 --as mimic4 --stays 1000 raw.truth=false
    python benchmarks/full_size.py raw4_1 raw4_3 raw4_8

(10 and 100 % of the size of MIMIC-III are 6,153 and 61,532 stays; MIMIC-IV 3.1 has 94,458. A folder
with ``icu`` in it is MIMIC-IV's.)

Each method runs in a process of its own. Repeats take turns, as a machine's speed may change from
one to the next: the result is the fastest run of each method, and the median of the ratios over
the rounds. Memory is the peak resident size as the operating system reports it; sampling would slow
down the method that uses most.

The readers read the columns that the ingest needs of the tables that it reads, and keep nothing:
polars' streaming engine, and Arrow's reader behind isal's decompressor. Each one either leaves the
cells as text (``_text``), or parses numbers and times as well. ``engine_read`` is the reader of the
ingest alone. ``same_work`` is the work of ``ingest_without_sepsis`` as a user of polars would write
it (``same_work.py``): the fair comparison of the two. The last lines are the ratios of the ingest
to each reader and to the fastest one, the processor seconds by part of the ingest, the ratio to the
same work, and the straight line through the sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Run = dict[str, Any]
"""The figures of one run of a method."""
Runs = dict[tuple[str, str], list[Run]]
"""Runs by folder and method, in the order of the rounds."""

NUMBER_COLUMNS = ("VALUENUM", "AMOUNT", "RATE", "PATIENTWEIGHT")
ID_COLUMNS = ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "STAY_ID", "ITEMID", "PHARMACY_ID")
TIME_ENDINGS = ("TIME", "DATE", "DOB", "DOD")


def name_source(folder: Path) -> str:
    """The source that reads the folder."""
    return "mimic4" if (folder / "icu").is_dir() else "mimic3"


def find_files(folder: Path) -> list[tuple[Path, list[str]]]:
    """The files that an ingest reads, and the columns that it needs, in the file's spelling."""
    from flowsheet.cohort.engine.database import load_database
    from flowsheet.cohort.engine.files import find_tables

    database = load_database(name_source(folder))
    tables = find_tables(database, folder, tuple(database.tables), None, 8 << 20)
    return [
        (file.path, list(file.columns.values()))
        for table in tables.values()
        for file in table.files
    ]


def holds_time(column: str) -> bool:
    return column.upper().endswith(TIME_ENDINGS)


def read_with_polars(folder: Path, out: Path, text: bool = False) -> int:
    import polars as pl

    def parse(column: str) -> pl.Expr:
        if holds_time(column) and not text:
            return pl.col(column).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
        return pl.col(column)

    types: dict[str, type[pl.DataType]] = {
        **dict.fromkeys(NUMBER_COLUMNS, pl.Float64),
        **dict.fromkeys(ID_COLUMNS, pl.Int64),
    }

    def has_type(column: str) -> bool:
        return column.upper() in types and not text

    rows = 0
    for path, columns in find_files(folder):
        schema = {column: types[column.upper()] for column in columns if has_type(column)}
        table = pl.scan_csv(path, infer_schema=False, schema_overrides=schema, ignore_errors=True)
        cells = table.select(*(parse(column).count() for column in columns), pl.len())
        rows += cells.collect(engine="streaming")["len"].item()
    return rows


def read_with_arrow(folder: Path, out: Path, text: bool = False) -> int:
    import pyarrow as pa
    import pyarrow.csv
    from isal import igzip_threaded

    def column_type(column: str) -> pa.DataType:
        if text:
            return pa.binary()
        if holds_time(column):
            return pa.timestamp("s")
        is_number = column.upper() in (*NUMBER_COLUMNS, *ID_COLUMNS)
        return pa.float64() if is_number else pa.string()

    rows = 0
    for path, columns in find_files(folder):
        types = {column: column_type(column) for column in columns}
        convert = pyarrow.csv.ConvertOptions(
            include_columns=columns, column_types=types, check_utf8=not text
        )
        blocks = pyarrow.csv.ReadOptions(block_size=8 << 20)
        is_gzip = path.suffix == ".gz"
        file = igzip_threaded.open(path, "rb", threads=1) if is_gzip else path.open("rb")
        with file as stream:
            source = pa.PythonFile(stream, "r")
            with pyarrow.csv.open_csv(source, blocks, convert_options=convert) as reader:
                rows += sum(batch.num_rows for batch in reader)
    return rows


def decompress(folder: Path, out: Path) -> int:
    """Bytes, not rows: the part that no reader can avoid."""
    from isal import igzip

    size = 0
    for path, _ in find_files(folder):
        with igzip.open(path) as stream:
            while block := stream.read(1 << 20):
                size += len(block)
    return size


def read_with_engine(folder: Path, out: Path) -> int:
    """The ingest's own reader, which names every malformed row; the rows of mapped items."""
    from flowsheet.cohort.engine.database import load_database
    from flowsheet.cohort.engine.exclusions import ExclusionLog
    from flowsheet.cohort.engine.files import find_tables
    from flowsheet.cohort.engine.table_reader import RowFilter, stream_table

    database = load_database(name_source(folder))
    tables = find_tables(database, folder, tuple(database.tables), None, 8 << 20)
    log, rows = ExclusionLog(), 0
    for table in tables.values():
        items = database.items.of_table(table.name)["item"].unique()
        row_filter = RowFilter("item", items) if len(items) else None
        rows += sum(frame.height for frame in stream_table(table, log, row_filter))
    return rows


def do_same_work(folder: Path, out: Path) -> int:
    from same_work import convert_with_polars

    return convert_with_polars(folder, out, name_source(folder))


def start(folder: Path, out: Path) -> int:
    """Only the interpreter, and what the command imports."""
    from flowsheet.cohort import ingest  # noqa: F401

    return 0


def ingest(folder: Path, out: Path, *overrides: str) -> int:
    """``flowsheet ingest SOURCE cohort.path=FOLDER --out ...``, with the interpreter's start."""
    os.environ["FLOWSHEET_HOME"] = str(out / "home")
    from flowsheet.cli import cli

    path = f"cohort.path={folder}"
    cli.main(
        ["ingest", name_source(folder), path, *overrides, "--out", str(out / "extract")],
        standalone_mode=False,
    )
    manifest = json.loads((out / "extract" / "manifest.json").read_text(encoding="utf-8"))
    return int(manifest["tables"]["events"]["rows"])


def ingest_without_sepsis(folder: Path, out: Path) -> int:
    return ingest(folder, out, "cohort.options.sepsis3=null")


METHODS = {
    "polars": read_with_polars,
    "polars_text": partial(read_with_polars, text=True),
    "arrow": read_with_arrow,
    "arrow_text": partial(read_with_arrow, text=True),
    "decompress": decompress,
    "start": start,
    "engine_read": read_with_engine,
    "same_work": do_same_work,
    "ingest_without_sepsis": ingest_without_sepsis,
    "ingest": ingest,
}
READERS = ("polars", "polars_text", "arrow", "arrow_text")


def measure(method: str, folder: Path, scratch: Path | None) -> Run:
    """Run a method in a child process: its seconds, processor seconds and peak memory."""
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        start = time.perf_counter()
        command = [sys.executable, __file__, "--run", method, str(folder), out]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        assert child.stdout is not None
        output = child.stdout.read().strip().splitlines()
        if child.returncode:
            raise SystemExit(f"{method} of {folder} ended with {child.returncode}: {output[-3:]}")
    compressed_bytes = sum(path.stat().st_size for path, _ in find_files(folder))
    return {
        "method": method,
        "folder": folder.name,
        "compressed_mb": compressed_bytes // 10**6,
        "seconds": round(seconds, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": usage.ru_maxrss // 1024,
        "result": int(output[-1]),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--scratch", type=Path, help="folder for the extracts; default: the system's"
    )
    arguments = parser.parse_args()
    runs: Runs = defaultdict(list)
    for folder in arguments.folders:
        for _ in range(arguments.repeats):
            for method in arguments.methods.split(","):
                run = measure(method, folder.resolve(), arguments.scratch)
                print(json.dumps(run), flush=True)
                runs[folder.name, method].append(run)
    summarize(runs, [folder.name for folder in arguments.folders])


def summarize(runs: Runs, folders: list[str]) -> None:
    """Print the ratios of the ingest to the readers, and how each method grows with the size."""
    fastest = {key: min(rounds, key=lambda run: run["seconds"]) for key, rounds in runs.items()}
    methods = sorted({method for _, method in fastest})
    readers = [method for method in READERS if method in methods]
    if readers and "ingest" in methods:
        for folder in folders:
            print(json.dumps(compare(folder, runs, fastest, readers)), flush=True)
    for folder in folders:
        if {"start", "engine_read", "same_work", "ingest_without_sepsis", "ingest"} <= set(methods):
            print(json.dumps(split_work(folder, fastest)), flush=True)
    if len(folders) > 1:
        for method in methods:
            growth = fit_growth([fastest[folder, method] for folder in folders])
            print(json.dumps({"method": method} | growth), flush=True)


def compare(
    folder: str, runs: Runs, fastest: dict[tuple[str, str], Run], readers: list[str]
) -> dict[str, Any]:
    """Ratios of the ingest to the readers, of the fastest runs and the median over the rounds."""
    ingest_run = fastest[folder, "ingest"]
    line: dict[str, Any] = {
        "folder": folder,
        "fastest_reader": min(readers, key=lambda reader: fastest[folder, reader]["seconds"]),
        "peak_mb": ingest_run["peak_mb"],
    }
    for kind in ("seconds", "processor_seconds"):
        ratios = {
            reader: round(ingest_run[kind] / fastest[folder, reader][kind], 2) for reader in readers
        }
        line[f"ratio_of_{kind}"] = ratios | {"fastest": max(ratios.values())}
    for reader in readers:
        rounds = zip(runs[folder, "ingest"], runs[folder, reader], strict=True)
        ratios_by_round = [run["seconds"] / other["seconds"] for run, other in rounds]
        line[f"median_ratio_to_{reader}"] = round(statistics.median(ratios_by_round), 2)
    return line


def split_work(folder: str, fastest: dict[tuple[str, str], Run]) -> dict[str, Any]:
    """Processor seconds of the parts of the ingest, and its ratio to the same work in polars."""
    cpu = {
        method: fastest[folder, method]["processor_seconds"]
        for name, method in fastest
        if name == folder
    }
    without = cpu["ingest_without_sepsis"]
    return {
        "folder": folder,
        "start": cpu["start"],
        "reading": round(cpu["engine_read"] - cpu["start"], 2),
        "conversion_doses_checks_writing": round(without - cpu["engine_read"], 2),
        "sepsis": round(cpu["ingest"] - without, 2),
        "ratio_without_sepsis_to_same_work": round(without / cpu["same_work"], 2),
    }


def fit_growth(runs: list[Run]) -> dict[str, Any]:
    """The straight line through the sizes, and the exponent between neighbouring sizes."""
    size = np.array([run["compressed_mb"] for run in runs], dtype=float)
    seconds = np.array([run["seconds"] for run in runs])
    slope, intercept = np.polyfit(size, seconds, 1)
    exponents = np.diff(np.log(seconds)) / np.diff(np.log(size))  # 1 is linear
    return {
        "seconds_per_compressed_gb": round(slope * 1000, 2),
        "seconds_at_start": round(intercept, 2),
        "growth_exponents": [round(float(exponent), 3) for exponent in exponents],
    }


if __name__ == "__main__":
    if sys.argv[1] == "--run":
        print(METHODS[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4])), flush=True)
        if sys.argv[2] in READERS:
            os._exit(0)  # Arrow's threads may abort at the interpreter's end
    else:
        main()
