from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from flowsheet.prediction.limits import Limits
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import Loaded
from flowsheet.serving.scorer import Scorer
from flowsheet.serving.shadow import LOGGED, Shadow, compare


@pytest.fixture
def challenger(rival):
    return Loaded("ward-lstm", 4, "challenger", rival, datetime(2000, 1, 1, tzinfo=UTC))


@pytest.fixture
def scored(loaded, ward, tell):
    """Two requests as the shadow is told of them."""
    seen = []
    ids = ward.stays["stay_id"].to_list()
    bodies = [tell.body(tell.of_stays(ward, *ids[:2])), tell.body(tell.of_stays(ward, ids[5]))]
    Scorer(lambda: loaded, Limits(), seen.append).score(bodies)
    return seen[0]


def value(metrics: Metrics, name: str, **labels) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_both_risks_stand_side_by_side(scored, challenger, model_package, ward, tell):
    page = compare(scored, challenger)
    assert page.schema == pl.Schema(LOGGED)
    mine = tell.of_stays(ward, *[ward.stays["stay_id"][i] for i in (0, 1, 5)])
    np.testing.assert_allclose(
        page["champion_risk"], model_package.predict(mine)["risk"], atol=1e-6
    )
    np.testing.assert_allclose(
        page["challenger_risk"], challenger.model_package.predict(mine)["risk"], atol=1e-6
    )
    assert page["stay_id"].unique().sort().to_list() == mine.stays["stay_id"].to_list()
    assert set(page["champion_version"]) == {3}
    assert set(page["challenger_version"]) == {4}


def test_what_was_scored_is_written_when_the_shadow_ends(scored, challenger, tmp_path):
    metrics = Metrics()
    shadow = Shadow(lambda: challenger, tmp_path / "m", metrics)
    shadow.start()
    shadow.offer(scored)
    wait_for(lambda: value(metrics, "flowsheet_shadow_batches_total", outcome="scored") == 1)
    shadow.close(5)
    (file,) = (tmp_path / "m").iterdir()
    held = pl.read_parquet(file)
    assert held.schema == pl.Schema(LOGGED)
    assert (
        held.height
        == value(metrics, "flowsheet_shadow_steps_total")
        == value(metrics, "flowsheet_shadow_difference_count")
    )


def test_a_full_queue_drops_and_counts_at_once(scored, challenger, tmp_path):
    metrics = Metrics()
    shadow = Shadow(lambda: challenger, tmp_path, metrics)  # not started: nobody takes
    begin = time.monotonic()
    for _ in range(100):
        shadow.offer(scored)
    assert time.monotonic() - begin < 0.5
    assert value(metrics, "flowsheet_shadow_batches_total", outcome="dropped") == 96


def test_a_challenger_that_fails_is_counted_and_nothing_else(
    scored, challenger, tmp_path, monkeypatch
):
    class Broken:
        def predict(self, tables):
            raise BaseException("a panic")

    metrics = Metrics()
    shadow = Shadow(lambda: replace(challenger, model_package=Broken()), tmp_path, metrics)
    shadow.start()
    shadow.offer(scored)
    wait_for(lambda: value(metrics, "flowsheet_shadow_batches_total", outcome="failed") == 1)
    shadow.close(5)
    assert list(tmp_path.iterdir()) == []


def test_the_champion_is_not_compared_with_itself(scored, loaded, tmp_path):
    metrics = Metrics()
    shadow = Shadow(lambda: loaded, tmp_path, metrics)
    shadow.start()
    shadow.offer(scored)
    wait_for(lambda: value(metrics, "flowsheet_shadow_batches_total", outcome="no_challenger") == 1)
    shadow.close(5)
    assert list(tmp_path.iterdir()) == []


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
