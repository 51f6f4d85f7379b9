"""The memory section from a study made up by hand: names are escaped, sentences follow from the figures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from polars.testing import assert_frame_equal

from flowsheet.lifecycle.memory_study.report import MemoryReport, drawings, memory_section
from tests.lifecycle.memory_study.helpers import MARKUP_NAME, make_memory_report


def test_names_are_escaped_and_nothing_is_loaded():
    page = str(memory_section(make_memory_report()))
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;rnn" in page
    assert "<script" not in page
    assert "http" not in page


def test_sentences_follow_from_the_figures():
    page = str(memory_section(make_memory_report()))
    assert "3 steps back, lstm keeps 72.9% of the gradient" in page
    assert "27 times as much (by replicate 27, 27)" in page
    assert "exactly, in what arx says" in page
    assert "lstm closes 25.0% of the distance from arx" in page


def test_one_replicate_has_no_bands_and_no_spread():
    told = make_memory_report(1)
    assert told.learned["low"].is_nan().all()
    page = str(memory_section(told))
    assert "band" not in page.split("</style>")[1]
    assert "one replicate" in page


def test_the_mean_over_replicates_has_student_s_interval():
    row = make_memory_report(3).learned.filter(model="lstm", lag=2).row(0, named=True)
    assert row["response"] == pytest.approx(-1.9)
    assert row["high"] - row["response"] == pytest.approx(4.30265 * 0.1 / 3**0.5, rel=1e-4)
    distance = dict(make_memory_report(3).distances.select("model", "distance").iter_rows())
    assert distance["lstm"] == pytest.approx(0.1)


def test_colours_follow_the_page():
    first, second = (
        str(memory_section(make_memory_report(), order))
        for order in (["lstm", MARKUP_NAME], [MARKUP_NAME, "lstm"])
    )
    assert (
        '<svg class="key m0" viewBox="0 0 22 8" aria-hidden="true"><path d="M0 4L22 4" class="curve m0"/></svg>lstm'
        in first
    )
    assert (
        '<svg class="key m1" viewBox="0 0 22 8" aria-hidden="true"><path d="M0 4L22 4" class="curve m1"/></svg>lstm'
        in second
    )


def test_each_drawing_stands_alone_with_its_words():
    for name, text in drawings(make_memory_report()).items():
        root = ElementTree.fromstring(text)
        words = " ".join(node.text or "" for node in root.iter() if node.tag.endswith("text"))
        assert len(words) > 60, name
        assert any(node.tag.endswith("style") for node in root.iter())


def test_it_is_kept_and_found_again(tmp_path: Path):
    told = make_memory_report()
    told.save(tmp_path)
    again = MemoryReport.load(tmp_path)
    assert again.about == told.about
    assert again.stay is None
    assert_frame_equal(again.responses, told.responses)
