"""What tuning maximizes: a function of labels and probabilities that other processes can call."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from flowsheet.errors import UsageError
from flowsheet.evaluation.metrics import make_score_function


@pytest.mark.parametrize(
    "name", ["auroc", "auprc", "brier", "log_loss", "ece", "ppv_at_alert_rate_10"]
)
def test_the_score_is_larger_for_better_predictions(name):
    y = np.array([0, 0, 1, 1])
    better, worse = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.4, 0.6, 0.5, 0.3])
    score = make_score_function(name)
    assert score(y, better) > score(y, worse)


def test_an_unknown_metric_is_refused():
    with pytest.raises(UsageError, match='did you mean "auroc"'):
        make_score_function("aurok")


@pytest.mark.parametrize("name", ["calibration_slope", "normalised_utility"])
def test_a_metric_that_does_not_rank_by_probabilities_is_refused(name):
    with pytest.raises(UsageError, match="cannot be monitored") as error:
        make_score_function(name)
    assert "ppv_at_alert_rate_<percent>" in str(error.value.todo)


def test_a_score_function_can_be_sent_to_another_process():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 200).astype(np.int8), rng.random(200)
    score = make_score_function("sensitivity_at_alert_rate_2")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(score, y, p).result() == score(y, p)
