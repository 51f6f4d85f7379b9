from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from flowsheet.prediction.limits import Limits
from flowsheet.serving.answer_files import read_answers
from flowsheet.serving.answer_log import AnswerLog
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import Scorer
from flowsheet.serving.shadow import Shadow, find_differences
from tests.request_bodies import encode_body, select_stays


@pytest.fixture
def challenger(challenger_package):
    loaded_at = datetime(2000, 1, 1, tzinfo=UTC)
    return LoadedModel("ward-lstm", 4, "challenger", challenger_package, loaded_at)


@pytest.fixture
def scored_batch(champion, ward):
    """Two requests as the scorer hands them to the shadow."""
    batches = []
    ids = ward.stays["stay_id"].to_list()
    parts = [select_stays(ward, *ids[:2]), select_stays(ward, ids[5])]
    scorer = Scorer(lambda: champion, Limits(), on_scored=batches.append)
    scorer.score([encode_body(part) for part in parts])
    return batches[0]


def sample(metrics: Metrics, name: str, **labels) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def answers(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "home"))
    log = AnswerLog(tmp_path / "answers", "ward-lstm", Metrics())
    log.start()
    yield log
    log.close(5)


def test_the_challengers_risks_are_kept_beside_the_answers(
    scored_batch, challenger, answers, ward, tmp_path
):
    metrics = Metrics()
    shadow = Shadow(lambda: challenger, answers, metrics)
    shadow.start()
    answers.add(scored_batch)
    shadow.offer(scored_batch)
    wait_for(lambda: sample(metrics, "flowsheet_shadow_batches_total", outcome="scored") == 1)
    shadow.close(5)
    answers.close(5)
    rows = read_answers(tmp_path / "answers")
    tables = select_stays(ward, *[ward.stays["stay_id"][i] for i in (0, 1, 5)])
    for is_shadow, version, model in (
        (False, 3, scored_batch.model),
        (True, 4, challenger),
    ):
        of_model = rows.filter(is_shadow=is_shadow).sort("stay_id", "step")
        expected = model.model_package.predict(tables)
        np.testing.assert_allclose(of_model["risk"], expected["risk"], atol=1e-6)
        assert of_model["version"].unique().to_list() == [version]
    keys = ["answered_at", "request_id", "stay_id", "time"]
    champion, shadowed = rows.filter(~pl.col("is_shadow")), rows.filter("is_shadow")
    assert champion.join(shadowed, on=keys).height == shadowed.height
    assert sample(metrics, "flowsheet_shadow_steps_total") == shadowed.height
    assert sample(metrics, "flowsheet_shadow_difference_count") == shadowed.height


def test_risks_are_compared_at_the_same_times(scored_batch):
    risks = scored_batch.predictions
    later = risks.with_columns(risk=pl.col("risk") + 0.25).gather_every(2)
    assert find_differences(risks, later) == pytest.approx([0.25] * later.height)


def test_a_batch_that_finds_the_queue_full_is_dropped_without_waiting(
    scored_batch, challenger, answers
):
    metrics = Metrics()
    shadow = Shadow(lambda: challenger, answers, metrics)  # not started: the queue stays full
    start = time.monotonic()
    for _ in range(100):
        shadow.offer(scored_batch)
    assert time.monotonic() - start < 0.5
    assert sample(metrics, "flowsheet_shadow_batches_total", outcome="dropped") == 96


def test_a_challenger_that_fails_is_only_counted(scored_batch, challenger, answers, tmp_path):
    class Broken:
        def predict(self, tables):
            raise BaseException("a panic")

    metrics = Metrics()
    shadow = Shadow(lambda: replace(challenger, model_package=Broken()), answers, metrics)
    shadow.start()
    shadow.offer(scored_batch)
    wait_for(lambda: sample(metrics, "flowsheet_shadow_batches_total", outcome="failed") == 1)
    shadow.close(5)
    answers.close(5)
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_champion_is_not_compared_with_itself(scored_batch, champion, answers, tmp_path):
    metrics = Metrics()
    shadow = Shadow(lambda: champion, answers, metrics)
    shadow.start()
    shadow.offer(scored_batch)
    wait_for(
        lambda: sample(metrics, "flowsheet_shadow_batches_total", outcome="no_challenger") == 1
    )
    shadow.close(5)
    answers.close(5)
    assert not list(tmp_path.rglob("*.parquet"))


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
