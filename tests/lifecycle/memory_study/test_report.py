"""The memory section from a study made up by hand: names are escaped, sentences follow from the figures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.lifecycle.memory_study import LAW, METRIC_NAMES
from flowsheet.lifecycle.memory_study.report import MemoryReport, drawings, memory_section

ODD = "<b>&rnn"


def study(replicates: int = 2) -> MemoryReport:
    lag = np.arange(5)
    truth = np.array([0.0, -1.0, -2.0, -1.0, 0.0])
    responses = [
        pl.DataFrame(
            {
                "replicate": r,
                "model": model,
                "drug": "insulin",
                "lag": lag,
                "response": values + 0.1 * r * told,
            }
        )
        for r in range(replicates)
        for model, values, told in (
            ("lstm", truth, 1),
            (ODD, truth / 2, 1),
            ("arx", np.where(lag, 0.0, -1.0), 0),
        )
    ]
    gradients = [
        pl.DataFrame(
            {"replicate": r, "model": model, "lag": lag, "norm": rate**lag, "relative": rate**lag}
        )
        for r in range(replicates)
        for model, rate in (("lstm", 0.9), (ODD, 0.3))
    ]
    metrics = (*METRIC_NAMES, "share")
    figures = [
        {"model": m, "metric": metric, "value": v, "low": v - 0.01, "high": v + 0.01, "replicates_low": v - 0.02,
         "replicates_high": v + 0.02, "values": [v] * replicates}
        for m, v in ((LAW, 0.2), ("lstm", 0.25), (ODD, 0.3), ("arx", 0.4))
        for metric in metrics
    ]  # fmt: skip
    return MemoryReport(
        curves=pl.DataFrame({"drug": "insulin", "shape": "hump", "lag": lag, "effect": truth}),
        responses=pl.concat(responses),
        gradients=pl.concat(gradients),
        figures=pl.DataFrame(figures),
        orders=pl.DataFrame(
            {"first": ["lstm"], "second": [ODD], "sentence": [f"lstm before {ODD}."]}
        ),
        about={
            "models": {
                "lstm": "recurrent",
                ODD: "recurrent",
                "arx": "autoregressive with covariates",
            },
            "closer": ["lstm", ODD, "arx"],
            "baseline": "arx",
            "far": 3,
            "doses": 1.0,
            "confidence": 0.95,
            "resamples": 200,
            "seeds": list(range(replicates)),
            "trials": 2,
            "followed": [9] * replicates,
            "subjects": [50] * replicates,
            "step_hours": 24.0,
        },
    )


def test_names_are_escaped_and_nothing_is_loaded():
    page = str(memory_section(study()))
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;rnn" in page
    assert "<script" not in page
    assert "http" not in page


def test_sentences_follow_from_the_figures():
    page = str(memory_section(study()))
    assert "3 steps back, lstm keeps 72.9% of the gradient" in page
    assert "27 times as much (by replicate 27, 27)" in page
    assert "exactly, in what arx says" in page
    assert "lstm closes 25.0% of the distance from arx" in page


def test_one_replicate_has_no_bands_and_no_spread():
    told = study(1)
    assert told.learned["low"].is_nan().all()
    page = str(memory_section(told))
    assert "band" not in page.split("</style>")[1]
    assert "one replicate" in page


def test_the_mean_over_replicates_has_student_s_interval():
    row = study(3).learned.filter(model="lstm", lag=2).row(0, named=True)
    assert row["response"] == pytest.approx(-1.9)
    assert row["high"] - row["response"] == pytest.approx(4.30265 * 0.1 / 3**0.5, rel=1e-4)
    distance = dict(study(3).distances.select("model", "distance").iter_rows())
    assert distance["lstm"] == pytest.approx(0.1)


def test_colours_follow_the_page():
    first, second = (
        str(memory_section(study(), order)) for order in (["lstm", ODD], [ODD, "lstm"])
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
    for name, text in drawings(study()).items():
        root = ElementTree.fromstring(text)
        words = " ".join(node.text or "" for node in root.iter() if node.tag.endswith("text"))
        assert len(words) > 60, name
        assert any(node.tag.endswith("style") for node in root.iter())


def test_it_is_kept_and_found_again(tmp_path: Path):
    told = study()
    told.save(tmp_path)
    again = MemoryReport.load(tmp_path)
    assert again.about == told.about
    assert again.stay is None
    assert_frame_equal(again.responses, told.responses)
