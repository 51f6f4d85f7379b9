from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from flowsheet.prediction.limits import Limits
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import LoadedModel
from flowsheet.serving.scorer import Scorer
from flowsheet.serving.shadow import SHADOW_SCORES, Shadow, compare_risks
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


def test_both_risks_of_a_step_are_in_one_row(scored_batch, challenger, model_package, ward):
    scores = compare_risks(scored_batch, challenger)
    assert scores.schema == pl.Schema(SHADOW_SCORES)
    tables = select_stays(ward, *[ward.stays["stay_id"][i] for i in (0, 1, 5)])
    champion_risk = model_package.predict(tables)["risk"]
    challenger_risk = challenger.model_package.predict(tables)["risk"]
    np.testing.assert_allclose(scores["champion_risk"], champion_risk, atol=1e-6)
    np.testing.assert_allclose(scores["challenger_risk"], challenger_risk, atol=1e-6)
    assert scores["stay_id"].unique().sort().to_list() == tables.stays["stay_id"].to_list()
    assert set(scores["champion_version"]) == {3}
    assert set(scores["challenger_version"]) == {4}


def test_scores_are_written_when_the_shadow_closes(scored_batch, challenger, tmp_path):
    metrics = Metrics()
    shadow = Shadow(lambda: challenger, tmp_path / "m", metrics)
    shadow.start()
    shadow.offer(scored_batch)
    wait_for(lambda: sample(metrics, "flowsheet_shadow_batches_total", outcome="scored") == 1)
    shadow.close(5)
    (file,) = (tmp_path / "m").iterdir()
    scores = pl.read_parquet(file)
    assert scores.schema == pl.Schema(SHADOW_SCORES)
    assert sample(metrics, "flowsheet_shadow_steps_total") == scores.height
    assert sample(metrics, "flowsheet_shadow_difference_count") == scores.height


def test_a_batch_that_finds_the_queue_full_is_dropped_without_waiting(
    scored_batch, challenger, tmp_path
):
    metrics = Metrics()
    shadow = Shadow(lambda: challenger, tmp_path, metrics)  # not started: the queue stays full
    start = time.monotonic()
    for _ in range(100):
        shadow.offer(scored_batch)
    assert time.monotonic() - start < 0.5
    assert sample(metrics, "flowsheet_shadow_batches_total", outcome="dropped") == 96


def test_a_challenger_that_fails_is_only_counted(scored_batch, challenger, tmp_path):
    class Broken:
        def predict(self, tables):
            raise BaseException("a panic")

    metrics = Metrics()
    shadow = Shadow(lambda: replace(challenger, model_package=Broken()), tmp_path, metrics)
    shadow.start()
    shadow.offer(scored_batch)
    wait_for(lambda: sample(metrics, "flowsheet_shadow_batches_total", outcome="failed") == 1)
    shadow.close(5)
    assert list(tmp_path.iterdir()) == []


def test_the_champion_is_not_compared_with_itself(scored_batch, champion, tmp_path):
    metrics = Metrics()
    shadow = Shadow(lambda: champion, tmp_path, metrics)
    shadow.start()
    shadow.offer(scored_batch)
    wait_for(
        lambda: sample(metrics, "flowsheet_shadow_batches_total", outcome="no_challenger") == 1
    )
    shadow.close(5)
    assert list(tmp_path.iterdir()) == []


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
