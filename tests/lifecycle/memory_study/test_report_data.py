"""The results of a memory study, and what is derived from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from flowsheet.lifecycle.memory_study.report_data import MemoryReport
from tests.lifecycle.memory_study.helpers import make_memory_report


def test_one_replicate_has_no_interval():
    assert make_memory_report(1).mean_responses["low"].is_nan().all()


def test_the_mean_over_replicates_has_student_s_interval():
    responses = make_memory_report(3).mean_responses
    row = responses.filter(model="lstm", lag=2).row(0, named=True)
    assert row["response"] == pytest.approx(-1.9)
    assert row["high"] - row["response"] == pytest.approx(4.30265 * 0.1 / 3**0.5, rel=1e-4)


def test_the_distance_is_the_error_of_the_learned_effect():
    distance = dict(make_memory_report(3).distances.select("model", "distance").iter_rows())
    assert distance["lstm"] == pytest.approx(0.1)


def test_a_model_that_responds_at_lag_0_only_is_memoryless():
    assert make_memory_report().memoryless_models == ["arx"]


def test_a_saved_report_is_loaded_unchanged(tmp_path: Path):
    report = make_memory_report()
    report.save(tmp_path)
    loaded = MemoryReport.load(tmp_path)
    assert loaded.about == report.about
    assert loaded.example_stay is None
    assert_frame_equal(loaded.responses, report.responses)
