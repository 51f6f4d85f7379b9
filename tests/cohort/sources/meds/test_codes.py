"""Mapping files of codes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.sources.meds.codes import DRUGS, CodeMapping
from flowsheet.errors import UsageError
from tests.cohort.sources.meds.conftest import write_mapping


def test_an_equal_code_is_preferred_then_the_longest_pattern():
    rows = pl.DataFrame({"code": ["A//*", "A//B//*", "A//B//C", "Z"]})
    mapping = CodeMapping(rows.with_row_index("mapping_row"))
    codes = ["A", "A//X", "A//B", "A//B//D", "A//B//C", "AB", "Z//1", "Z"]
    matches = dict(mapping.match(pl.Series(codes)).rows())
    assert matches == {"A": 0, "A//X": 0, "A//B": 1, "A//B//D": 1, "A//B//C": 2, "Z": 3}


MISTAKES = {
    "kind": (["A,variabel,hr,,,"], ("line 2, column kind", "variable")),
    "variable": (["A,variable,heart,,,"], ("line 2, column name", "variable called 'heart'")),
    "drug": (["B,sex,F,,,", "A,drug_start,vancomicin,,,"], ("line 3, column name", "vancomycin")),
    "sex": (["A,sex,female,,,"], ("line 2, column name", "F, M")),
    "conversion": (["A,variable,hr,,farenheit,"], ("line 2, column convert", "fahrenheit")),
    "delay": (["A,variable,hr,,,soon"], ("line 2, column delay_hours", "'soon'")),
    "negative delay": (["A,variable,hr,,,-1"], ("line 2, column delay_hours",)),
    "no code": ([",variable,hr,,,"], ("line 2, column code",)),
    "star": (["A*,variable,hr,,,"], ("line 2, column code", "CODE//*")),
    "repeated": (["A,variable,hr,,,", "A,variable,hr,,none,"], ("line 3", "listed twice")),
    "empty": ([], ("there are no rows",)),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_the_error_for_a_mistake_names_file_line_and_column(tmp_path: Path, case: str):
    lines, parts = MISTAKES[case]
    with pytest.raises(UsageError) as error:
        CodeMapping.read(str(write_mapping(tmp_path, lines)))
    message = str(error.value)
    assert all(part in message for part in (*parts, "codes.csv")), message


def test_a_missing_mapping_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        CodeMapping.read(str(tmp_path / "nowhere.csv"))


def test_a_file_without_the_required_columns_is_refused(tmp_path: Path):
    file = write_mapping(tmp_path, ["A,hr"], header="code,name")
    with pytest.raises(UsageError, match="no column 'kind'"):
        CodeMapping.read(str(file))


def test_the_shipped_mapping_agrees_with_the_item_map_of_the_catalogue():
    rows = CodeMapping.read("mimic").rows.filter(pl.col("kind").is_in(["variable", *DRUGS]))
    items = catalogue.mimic3_items().select("name", item=pl.col("itemid").cast(pl.String))
    has_item = pl.col("code").str.contains(r"\d{2,}")
    mapped = rows.filter(has_item).select(
        "code", "name", item=pl.col("code").str.extract(r"(\d{2,})")
    )
    assert mapped.join(items, on=["name", "item"], how="anti").is_empty()
    assert mapped.height > 400
