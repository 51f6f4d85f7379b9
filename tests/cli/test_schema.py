"""``flowsheet schema``, and tables that were filled by its description alone."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cli import main
from flowsheet.cohort.data_dictionary import list_columns
from flowsheet.cohort.schema import TABLES


def test_every_column_is_described():
    found = [(column.table, column.column) for column in list_columns()]
    assert found == [(table, column) for table, columns in TABLES.items() for column in columns]


def test_the_columns_are_printed(capsys: pytest.CaptureFixture[str]):
    main(["schema"])
    printed = capsys.readouterr().out
    assert "known_at" in printed
    assert "years" in printed
    main(["schema", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["column"] == "stay_id"


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_templates_have_the_columns_and_overwrite_nothing(
    tmp_path: Path, file_format: str, capsys: pytest.CaptureFixture[str]
):
    arguments = ["schema", "--templates", str(tmp_path / "mine"), "--format", file_format]
    main(arguments)
    for table, columns in TABLES.items():
        file = tmp_path / "mine" / f"{table}.{file_format}"
        frame = pl.read_csv(file) if file_format == "csv" else pl.read_parquet(file)
        assert frame.columns == list(columns)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    assert "exists already" in capsys.readouterr().err


def test_own_tables_with_the_required_columns_and_whole_ages_are_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    start, end = datetime(2024, 1, 1), datetime(2024, 1, 3)
    times = {"time": start, "known_at": start}
    stays = {"stay_id": 1, "subject_id": 7, "admitted_at": start, "discharged_at": end}
    pl.DataFrame([{**stays, "age": 70, "sex": "F"}]).write_parquet(tmp_path / "stays.parquet")
    event = {"stay_id": 1, **times, "variable": "hr", "value": 80}
    pl.DataFrame([event]).write_parquet(tmp_path / "events.parquet")
    main(["validate", str(tmp_path)])
    assert "valid tables of a cohort extract" in capsys.readouterr().out
