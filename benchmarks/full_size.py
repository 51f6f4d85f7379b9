"""MIMIC-III at full size: the ingest beside what it costs only to unpack and parse the same files.
JSON lines.

    flowsheet simulate raw_1 --as mimic3 --stays 615 raw.truth=false        (6153 and 61532 stays: 10 and 100 %)
    python benchmarks/full_size.py raw_1 raw_10 raw_100
    python benchmarks/full_size.py raw_1 raw_10 --ways polars,ingest --repeats 3

Each way runs in a process of its own. Repeats take turns; of each way the fastest is told, and of
its ratios the median over the turns, as a machine's speed may change from one to the next. Memory
is the largest that the process had resident, as the system keeps it: to sample it meanwhile would
slow the way that holds most. The readers read, of the tables that the ingest reads, the columns
that it needs, and keep nothing: polars' streaming engine, and Arrow's reader behind isal's
decompressor; each either cuts the text into cells and leaves them at that (``_text``), or parses
numbers and times as well. The last lines are the ratios of the ingest to each reader and to the
fastest, and the straight line through the sizes.
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


def table_columns() -> dict[str, tuple[str, ...]]:
    from flowsheet.cohort.sources.mimic3.files import TABLES

    return TABLES


def files(folder: Path) -> list[tuple[Path, list[str]]]:
    """The tables that an ingest reads, and of each the columns that it needs, as the file spells them."""
    found = []
    for name, columns in table_columns().items():
        path = next(
            folder / f"{name.upper()}{end}"
            for end in (".csv.gz", ".csv")
            if (folder / f"{name.upper()}{end}").exists()
        )
        found.append((path, [c.upper() for c in columns]))
    return found


NUMBERS = ("VALUENUM", "AMOUNT", "RATE", "PATIENTWEIGHT")
IDS = ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "ITEMID")
TIMES = ("TIME", "DATE", "DOB")


def read_with_polars(folder: Path, out: Path, text: bool = False) -> int:
    import polars as pl

    def cell(column: str) -> pl.Expr:
        is_time = column.endswith(TIMES) and not text
        found = pl.col(column)
        return found.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False) if is_time else found

    kinds: dict[str, type[pl.DataType]] = {
        **dict.fromkeys(NUMBERS, pl.Float64),
        **dict.fromkeys(IDS, pl.Int64),
    }
    rows = 0
    for path, columns in files(folder):
        schema = {} if text else {column: kinds[column] for column in columns if column in kinds}
        table = pl.scan_csv(path, infer_schema=False, schema_overrides=schema, ignore_errors=True)
        cells = table.select(*(cell(column).count() for column in columns), pl.len())
        rows += cells.collect(engine="streaming")["len"].item()
    return rows


def read_with_arrow(folder: Path, out: Path, text: bool = False) -> int:
    import pyarrow as pa
    import pyarrow.csv
    from isal import igzip_threaded

    rows = 0
    for path, columns in files(folder):
        types = dict.fromkeys(columns, pa.binary() if text else pa.string())
        types |= {} if text else {c: pa.float64() for c in columns if c in (*NUMBERS, *IDS)}
        types |= {} if text else {c: pa.timestamp("s") for c in columns if c.endswith(TIMES)}
        options = pyarrow.csv.ConvertOptions(
            include_columns=columns, column_types=types, check_utf8=not text
        )
        opened = (
            igzip_threaded.open(path, "rb", threads=1) if path.suffix == ".gz" else path.open("rb")
        )
        with opened as stream:
            blocks = pyarrow.csv.ReadOptions(block_size=8 << 20)
            with pyarrow.csv.open_csv(
                pa.PythonFile(stream, "r"), blocks, convert_options=options
            ) as reader:
                rows += sum(batch.num_rows for batch in reader)
    return rows


def unpack(folder: Path, out: Path) -> int:
    """Bytes, not rows: what no reader can do without."""
    from isal import igzip

    size = 0
    for path, _ in files(folder):
        with igzip.open(path) as stream:
            while block := stream.read(1 << 20):
                size += len(block)
    return size


def ingest(folder: Path, out: Path) -> int:
    """``flowsheet ingest mimic3 cohort.path=FOLDER --out ...``, from the start of the interpreter."""
    os.environ["FLOWSHEET_HOME"] = str(out / "home")
    from flowsheet.cli import cli

    cli.main(
        ["ingest", "mimic3", f"cohort.path={folder}", "--out", str(out / "extract")],
        standalone_mode=False,
    )
    manifest = json.loads((out / "extract" / "manifest.json").read_text())
    return int(manifest["tables"]["events"]["rows"])


WAYS = {
    "polars": read_with_polars,
    "polars_text": partial(read_with_polars, text=True),
    "arrow": read_with_arrow,
    "arrow_text": partial(read_with_arrow, text=True),
    "unpack": unpack,
    "ingest": ingest,
}
READERS = ("polars", "polars_text", "arrow", "arrow_text")


def measured(way: str, folder: Path, scratch: Path) -> dict[str, Any]:
    """Run a way in a process of its own; seconds, processor seconds and peak memory of it and its children."""
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        begin = time.perf_counter()
        command = [sys.executable, __file__, "--run", way, str(folder), out]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begin
        assert child.stdout is not None
        said = child.stdout.read().strip().splitlines()
        if child.returncode:
            raise SystemExit(f"{way} of {folder} ended with {child.returncode}: {said[-3:]}")
    return {
        "way": way,
        "folder": folder.name,
        "packed_mb": sum(path.stat().st_size for path, _ in files(folder)) // 10**6,
        "seconds": round(seconds, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": usage.ru_maxrss // 1024,
        "result": int(said[-1]),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--scratch", type=Path, help="where the extracts go meanwhile; by default the system's"
    )
    given = parser.parse_args()
    lines: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for folder in given.folders:
        for _ in range(given.repeats):
            for way in given.ways.split(","):
                line = measured(way, folder.resolve(), given.scratch)
                print(json.dumps(line), flush=True)
                lines[folder.name, way].append(line)
    conclude(lines, [folder.name for folder in given.folders])


def conclude(lines: dict[tuple[str, str], list[dict[str, Any]]], folders: list[str]) -> None:
    best = {key: min(turns, key=lambda one: one["seconds"]) for key, turns in lines.items()}
    ways = sorted({way for _, way in best})
    readers = [way for way in READERS if way in ways]
    for folder in folders if readers and "ingest" in ways else []:
        ours = best[folder, "ingest"]
        fastest = min(readers, key=lambda way: best[folder, way]["seconds"])
        said: dict[str, Any] = {
            "folder": folder,
            "fastest_reader": fastest,
            "peak_mb": ours["peak_mb"],
        }
        for kind in ("seconds", "processor_seconds"):
            ratios = {way: round(ours[kind] / best[folder, way][kind], 2) for way in readers}
            said[f"ratio_of_{kind}"] = ratios | {"fastest": max(ratios.values())}
        for way in readers:
            turns = zip(lines[folder, "ingest"], lines[folder, way], strict=True)
            each = [one["seconds"] / other["seconds"] for one, other in turns]
            said[f"median_ratio_to_{way}"] = round(statistics.median(each), 2)
        print(json.dumps(said), flush=True)
    for way in ways if len(folders) > 1 else []:
        size = np.array([best[folder, way]["packed_mb"] for folder in folders], dtype=float)
        took = np.array([best[folder, way]["seconds"] for folder in folders])
        slope, start = np.polyfit(size, took, 1)
        # between neighbouring sizes on a log scale: 1 is linear
        power = np.diff(np.log(took)) / np.diff(np.log(size))
        line = {
            "way": way,
            "seconds_per_packed_gb": round(slope * 1000, 2),
            "seconds_at_start": round(start, 2),
        }
        print(json.dumps(line | {"growth": [round(float(p), 3) for p in power]}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--run":
        print(WAYS[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4])), flush=True)
        if sys.argv[2] in READERS:
            os._exit(0)  # Arrow's may abort when it is taken down
    else:
        main()
