"""ROC, precision-recall and calibration curves."""

import numpy as np
import pytest

from flowsheet.evaluation.evidence import evaluate
from tests.evaluation.conftest import CONFIG


@pytest.fixture(scope="module")
def evidence(sequences, predictions):
    return evaluate(sequences, predictions, CONFIG, seed=1)


def test_a_curve_is_sorted_and_thinned(evidence):
    for _, points in evidence.curves.group_by("curve", "subset", "model"):
        assert points["x"].is_sorted()
        assert len(points) <= 200


def test_a_roc_curve_runs_from_0_to_1(evidence):
    for _, points in evidence.curves.filter(curve="roc").group_by("subset", "model"):
        xy = points.select("x", "y")
        assert (xy.row(0), xy.row(-1)) == ((0, 0), (1, 1))


def test_a_precision_recall_curve_ends_at_full_recall(evidence):
    for _, points in evidence.curves.filter(curve="pr").group_by("subset", "model"):
        assert points["x"][-1] == 1


def test_calibration_bins_contain_all_rows(evidence):
    calibration = evidence.curves.filter(curve="calibration")
    for (subset, model), bins in calibration.group_by("subset", "model"):
        leaderboard = evidence.leaderboard.filter(subset=subset, model=model, metric="auroc")
        assert bins["rows"].sum() == leaderboard["rows"].item()


def test_the_thinned_curve_keeps_its_area(evidence):
    points = evidence.curves.filter(curve="roc", subset="all", model="accurate")
    auroc = evidence.leaderboard.filter(subset="all", model="accurate", metric="auroc")
    area = np.trapezoid(points["y"], points["x"])
    assert area == pytest.approx(auroc["value"].item(), abs=0.003)
