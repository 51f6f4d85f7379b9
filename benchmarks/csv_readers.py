"""The engine's reader of CSV against polars' streaming reader, on one table of MIMIC.

Prints JSON lines, and the ratios of processor seconds.

    flowsheet simulate raw4 --as mimic4 --stays 3000 raw.truth=false
    python benchmarks/csv_readers.py raw4 --repeats 3

Both read the columns that an ingest needs of CHARTEVENTS, keep the rows of mapped items, parse
every cell, and name each row with a cell that cannot be parsed, by its number in the file. Both
keep nothing.

``polars`` reads text, and its expressions parse the cells. It cannot name rows with a wrong number
of fields: missing ones are read as empty cells, surplus ones and unbalanced quotes end the reading
without a number. ``polars_named`` finds those rows in a second pass over the lines, by their commas
outside of quotes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


def open_table(folder: Path) -> tuple[Any, Any]:
    """CHARTEVENTS and the ids of its mapped items."""
    from flowsheet.cohort.engine.database import load_database
    from flowsheet.cohort.engine.files import find_tables

    name = "mimic4" if (folder / "icu").is_dir() else "mimic3"
    database = load_database(name)
    table = find_tables(database, folder, ("chartevents",), None, 8 << 20)["chartevents"]
    return table, database.items.of_table("chartevents")["item"].unique().sort()


def read_with_engine(folder: Path) -> dict[str, int]:
    from flowsheet.cohort.engine.exclusions import ExclusionLog
    from flowsheet.cohort.engine.table_reader import RowFilter, stream_table

    table, items = open_table(folder)
    log = ExclusionLog({"chartevents": table.spec.names})
    rows = sum(frame.height for frame in stream_table(table, log, RowFilter("item", items)))
    return {"read": log.rows_read["chartevents"], "kept": rows, "wrong": log.defects().height}


def read_with_polars(folder: Path) -> dict[str, int]:
    import polars as pl

    from flowsheet.cohort.engine.cells import CellKind

    table, items = open_table(folder)
    kept = wrong = 0
    for file in table.files:
        scan = pl.scan_csv(file.path, infer_schema=False, row_index_name="row")
        cells = scan.select("row", *(pl.col(name).alias(key) for key, name in file.columns.items()))
        mapped = cells.filter(pl.col("item").is_in(items.cast(pl.String).implode()))
        parsed = {}
        for column in file.columns:
            text = pl.col(column)
            kind = table.kinds[column]
            if kind is CellKind.time:
                parsed[column] = text.str.to_datetime(TIME_FORMAT, time_unit="us", strict=False)
            elif kind is CellKind.number:
                parsed[column] = text.cast(pl.Float64, strict=False)
            elif kind is not CellKind.text:
                parsed[column] = text.cast(pl.Int64, strict=False)
        is_wrong = [
            (cell.is_null() & pl.col(column).is_not_null()) for column, cell in parsed.items()
        ]
        rows = mapped.with_columns(_is_wrong=pl.any_horizontal(is_wrong), **parsed)
        for frame in rows.collect_batches(chunk_size=250_000, engine="streaming"):
            kept += frame.height
            wrong += frame["_is_wrong"].sum()
    return {"kept": kept, "wrong": int(wrong)}


def read_and_name_with_polars(folder: Path) -> dict[str, int]:
    """``read_with_polars``, and the rows with a wrong number of fields."""
    import polars as pl

    from flowsheet.cohort.engine.files import read_header

    table, _ = open_table(folder)
    figures = read_with_polars(folder)
    for file in table.files:
        n_commas = len(read_header(file.path)) - 1
        lines = pl.scan_csv(
            file.path,
            has_header=False,
            skip_lines=1,
            separator="\x01",
            quote_char=None,
            schema={"line": pl.String},
            row_index_name="row",
        )
        commas = pl.col("line").str.count_matches(",", literal=True)
        unquoted = pl.col("line").str.replace_all('"[^"]*"', "")
        odd = lines.filter(commas != n_commas)
        wrong = odd.filter(unquoted.str.count_matches(",", literal=True) != n_commas)
        figures["wrong"] += wrong.collect(engine="streaming").height
    return figures


METHODS = {
    "engine": read_with_engine,
    "polars": read_with_polars,
    "polars_named": read_and_name_with_polars,
}


def measure(method: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, str(folder), "--run", method]
    output = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def run(method: str, folder: Path) -> None:
    import flowsheet.cohort.engine.table_reader  # noqa: F401

    start, cpu_start = time.perf_counter(), time.process_time()
    result = METHODS[method](folder)
    seconds = {
        "seconds": round(time.perf_counter() - start, 2),
        "processor_seconds": round(time.process_time() - cpu_start, 2),
    }
    print(json.dumps({"method": method} | seconds | result))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=list(METHODS))
    arguments = parser.parse_args()
    if arguments.run:
        return run(arguments.run, arguments.folder)
    ratios: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(arguments.repeats):
        runs = {method: measure(method, arguments.folder) for method in METHODS}
        for method, figures in runs.items():
            print(json.dumps(figures), flush=True)
            by_engine = figures["processor_seconds"] / runs["engine"]["processor_seconds"]
            ratios[method].append(by_engine)
    medians = {method: round(statistics.median(values), 2) for method, values in ratios.items()}
    print(json.dumps({"ratio_of_processor_seconds_to_engine": medians}))


if __name__ == "__main__":
    main()
