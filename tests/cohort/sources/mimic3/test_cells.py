"""One rule for each kind of cell, whatever the other cells of its block are."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.engine.cells import (
    CellKind,
    TimeZones,
    find_type_problem,
    parse_cells,
)
from flowsheet.cohort.engine.database import load_database
from flowsheet.cohort.engine.files import RawFile, RawTable
from flowsheet.cohort.engine.table_reader import _parse_csv

NOON = datetime(2145, 9, 8, 14, 0)
CELLS: list[tuple[CellKind, bytes, object]] = [
    (CellKind.id, b"50813", 50813),
    (CellKind.id, b"50813.0", 50813),
    (CellKind.id, b"50813.", 50813),
    (CellKind.id, b" 50813", 50813),
    (CellKind.id, b"0050813 ", 50813),
    (CellKind.id, b"+50813", 50813),
    (CellKind.id, b"0xC67D", 50813),
    (CellKind.id, b"NULL", None),
    (CellKind.id, b"", None),
    (CellKind.id, b"L50813", "id"),
    (CellKind.id, b"50813.5", "id"),
    (CellKind.id, b"-7", "id"),
    (CellKind.id, b"99999999999999999999", "id"),
    (CellKind.id, b"50813\xb5", "encoding"),
    (CellKind.time, b"2145-09-08 14:00:00", NOON),
    (CellKind.time, b"2145-09-08T14:00:00", NOON),
    (CellKind.time, b"2145-09-08 14:00", NOON),
    (CellKind.time, b"2145-09-08 14", "date"),  # 14:00 may be an hour too early
    (CellKind.time, b"2145-09-08 14:00:00.000", NOON),
    (CellKind.time, b"2145-09-08T14:00:00.0000000", NOON),
    (CellKind.time, b" 2145-09-08 14:00:00", NOON),
    (CellKind.time, b"2145-09-08 00:00", datetime(2145, 9, 8)),
    (CellKind.time, b"2145-09-08", "date"),  # 00:00 may be a day too early
    (CellKind.time, b" 2145-09-08 ", "date"),
    (CellKind.time, b'"2145-09-08"', "date"),
    (CellKind.time, b"None", None),
    (CellKind.time, b"NaT", None),
    (CellKind.time, b"2145-09-08 14:00:00Z", "date"),
    (CellKind.time, b"2145-09-08 14:00:00+01:00", "date"),
    (CellKind.time, b"2145-09-08 14:00:00 UTC", "date"),
    (CellKind.time, b"08/09/2145 14:00", "date"),
    (CellKind.time, b"2145-02-30 14:00:00", "date"),
    (CellKind.time, b"2145-09-08 24:00:00", "date"),
    (CellKind.number, b"7.5", 7.5),
    (CellKind.number, b" 7.5 ", 7.5),
    (CellKind.number, b"7.5e0", 7.5),
    (CellKind.number, b"nan", None),
    (CellKind.number, b'"7,5"', "number"),
    (CellKind.number, b">7", "number"),
    (CellKind.number, b"inf", "number"),
    (CellKind.number, b"-1e308", "number"),
    (CellKind.flag, b"1", 1),
    (CellKind.flag, b"1.0", 1),
    (CellKind.flag, b"true", 1),
    (CellKind.flag, b"f", 0),
    (CellKind.flag, b"0", 0),
    (CellKind.flag, b"maybe", "flag"),
    (CellKind.text, b"mg/dL", "mg/dL"),
    (CellKind.text, "µg/mL".encode(), "µg/mL"),
    (CellKind.text, b"\\N", None),
    (CellKind.text, b" mg/dL ", "mg/dL"),
    (CellKind.text, b" NULL", None),
    (CellKind.text, b"None", "None"),  # an oxygen device
    (CellKind.number, b"None", None),
    (CellKind.id, b"None", None),
    (CellKind.text, "µg/mL".encode("latin-1"), "encoding"),
]
_COLUMNS = {
    CellKind.id: "subject_id",
    CellKind.time: "time",
    CellKind.number: "number",
    CellKind.flag: "is_error",
    CellKind.text: "text",
}
_SAMPLES = {"subject_id": b"1", "item": b"211", "time": b"2150-01-01 00:00:00"}
_TABLE = load_database("mimic3").tables["chartevents"]
_NAMES = list(_TABLE.columns)


def _parse(*cells: tuple[CellKind, bytes]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row of CHARTEVENTS for each cell, parsed as one block."""
    file = RawFile(None, {name: name for name in _NAMES})  # type: ignore[arg-type]
    table = RawTable("chartevents", _TABLE, (file,))
    lines = []
    for kind, cell in cells:
        row = [cell if name == _COLUMNS[kind] else _SAMPLES.get(name, b"") for name in _NAMES]
        lines.append(b",".join(row) + b"\n")
    block = _parse_csv(table, file, _NAMES, pa.py_buffer(b"".join(lines)), None)
    return block.rows, block.defects


def _expected(cells: list[tuple[CellKind, bytes, object]]) -> dict[int, object]:
    return {position: value for position, (*_, value) in enumerate(cells)}


@settings(max_examples=40, deadline=None)
@given(cells=st.lists(st.sampled_from(CELLS), min_size=2, max_size=8))
def test_a_cell_is_read_by_its_rule_whatever_its_neighbours_are(
    cells: list[tuple[CellKind, bytes, object]],
) -> None:
    _check_cells(cells)


def _check_cells(cells: list[tuple[CellKind, bytes, object]]) -> None:
    rows, defects = _parse(*[(kind, cell) for kind, cell, _ in cells])
    found: dict[int, object] = dict(defects.select("position", "rule").iter_rows())
    for row in rows.to_dicts():
        kind = cells[row["position"]][0]
        found[row["position"]] = row[_COLUMNS[kind]]
    assert found == _expected(cells)


def test_every_cell_alone_and_all_cells_together_are_read_by_their_rules() -> None:
    for cell in CELLS:
        _check_cells([cell])
    _check_cells(CELLS)


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("prescriptions", "start"),
        ("prescriptions", "end"),
        ("microbiologyevents", "day"),
        ("patients", "born_at"),
    ],
)
def test_dates_alone_are_read_in_columns_that_are_dates(table: str, field: str) -> None:
    assert load_database("mimic3").tables[table].kinds[field] is CellKind.day
    cells = pl.Series([b"2145-09-08", b"2145-09-08 14:00:00", b"2145-09-08 00:00:00"])
    frame = pl.DataFrame({"x": cells, "position": [0, 1, 2]})
    rows, defects = parse_cells(frame, {"x": CellKind.day})
    assert rows["x"].to_list() == [datetime(2145, 9, 8), NOON, datetime(2145, 9, 8)]
    assert defects.is_empty()


def test_polars_raises_for_bytes_that_are_not_utf8_even_if_it_is_told_not_to() -> None:
    """Why the cells are decoded here; where this changes, ``cells._decode`` can be simpler."""
    with pytest.raises(pl.exceptions.ComputeError, match="utf8"):
        pl.Series([b"\xb5"]).cast(pl.String, strict=False)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pl.Series([True, False, None]), CellKind.flag, [1, 0, None]),
        (pl.Series([1.0, 0.0, float("nan")]), CellKind.flag, [1, 0, None]),
        (pl.Series([7.0, None]), CellKind.id, [7, None]),
        (pl.Series([80.5, None]), CellKind.text, ["80.5", None]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), CellKind.text, ["a", "b"]),
        (pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])), CellKind.text, ["a", "b"]),
        (pl.Series([None, None]), CellKind.number, [None, None]),
        (pl.Series([NOON]).dt.cast_time_unit("ns"), CellKind.time, [NOON]),
        (pl.Series([NOON.date()]), CellKind.day, [datetime(2145, 9, 8)]),
    ],
)
def test_types_of_parquet_columns_are_read(
    values: pl.Series, kind: CellKind, expected: list[object]
) -> None:
    assert find_type_problem(values.dtype, kind, None) is None
    frame = pl.DataFrame({"x": values}).with_row_index("position").cast({"position": pl.Int64})
    rows, defects = parse_cells(frame, {"x": kind})
    assert rows["x"].to_list() == expected
    assert defects.is_empty()


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (pl.Int64(), CellKind.time),
        (pl.Float64(), CellKind.time),
        (pl.Date(), CellKind.time),
        (pl.Duration(), CellKind.time),
        (pl.Datetime("us", "UTC"), CellKind.time),
        (pl.Boolean(), CellKind.id),
        (pl.Datetime("us"), CellKind.number),
        (pl.List(pl.Int64), CellKind.text),
    ],
)
def test_types_that_would_have_to_be_guessed_at_are_refused(
    dtype: pl.DataType, kind: CellKind
) -> None:
    assert find_type_problem(dtype, kind, None)


def test_times_of_a_zone_become_local_times_of_the_declared_zone() -> None:
    summer, far_away = datetime(2020, 7, 1, 14), datetime(2145, 7, 1, 14)
    values = pl.Series([summer, far_away]).dt.replace_time_zone("UTC")
    assert find_type_problem(values.dtype, CellKind.time, "America/New_York") is None
    frame = pl.DataFrame({"x": values, "position": [0, 1]})
    rows, defects = parse_cells(frame, {"x": CellKind.time}, TimeZones(target="America/New_York"))
    assert rows["x"].to_list() == [datetime(2020, 7, 1, 10, 0)]
    # polars knows no summer time that far away: rather no time than a wrong one
    assert defects["position"].to_list() == [1]
