"""Stays are selected, and their columns are filled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from tests.cohort.mimic3_folder import SourceResult


def test_stays_have_the_contracts_columns_and_their_attrition_is_counted(result: SourceResult):
    stays = result.tables.stays
    assert stays["stay_id"].to_list() == [1001, 1002, 1003, 1004]
    assert stays["site"].to_list() == ["carevue", *["metavision"] * 3]
    assert stays["age"].round(1).to_list() == [50.0, 65.0, 65.0, 91.4]
    assert stays["hospital_admitted_at"][0] == datetime(2150, 3, 1, 8)
    assert result.attrition["in the raw tables"] == 5
    assert result.attrition["aged 18 or over"] == 4


def test_first_stays_and_services_can_be_selected(read_shared: Callable[..., SourceResult]):
    first = read_shared(first_stay_only=True)
    assert first.tables.stays["stay_id"].to_list() == [1001, 1002, 1004]
    medical = read_shared(excluded_services=["CSURG"])
    assert medical.tables.stays["stay_id"].to_list() == [1001, 1004]
    assert medical.attrition["not under CSURG"] == 2
