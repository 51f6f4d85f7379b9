"""Why the engine has a reader of its own: polars' does not name rows with a wrong number of fields.

If one of these tests fails, polars has learned it: see benchmarks/csv_readers.py.
"""

from pathlib import Path

import polars as pl
import pytest


def read(path: Path, lines: str) -> list[dict[str, object]]:
    path.write_text(f"a,b,c\n{lines}", encoding="utf-8")
    rows = pl.scan_csv(path, infer_schema=False, row_index_name="row")
    return rows.collect(engine="streaming").to_dicts()


def test_polars_reads_missing_fields_as_empty_cells(tmp_path: Path) -> None:
    short = read(tmp_path / "short.csv", "1,2\n3,4,5\n")
    empty = read(tmp_path / "empty.csv", "1,2,\n3,4,5\n")
    assert short == empty


@pytest.mark.parametrize("line", ["3,4,5,6", '3,"4,5', "3,4,5,6,7"])
def test_polars_ends_at_surplus_fields_and_open_quotes_without_their_row(
    line: str, tmp_path: Path
) -> None:
    with pytest.raises(pl.exceptions.ComputeError) as error:
        read(tmp_path / "long.csv", f"1,2,3\n{line}\n1,2,3\n")
    assert "row 2" not in str(error.value)
    assert "line 3" not in str(error.value)
