"""Judged alert policies are a part of the evidence: metrics, headline, report, and its files."""

import numpy as np
import pytest

from flowsheet.config import AlertingConfig, TaskConfig
from flowsheet.evaluation.alert_policy import AlertPolicy
from flowsheet.evaluation.evidence import Evidence, evaluate, evaluate_folds
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.report.bedside import make_bedside, time_unit
from flowsheet.evaluation.report.policies import make_policy_table
from flowsheet.evaluation.threshold import choose_policy
from flowsheet.windows.protocol import FoldId
from tests.evaluation.conftest import CONFIG, simulate_predictions, simulate_stays

TASK = TaskConfig(name="daily")
BUDGET = AlertingConfig(threshold_by="alerts_per_day", target=0.3, silence_hours=48)
WITHOUT_RESAMPLES = CONFIG.model_copy(update={"resamples": 0})


@pytest.fixture(scope="module")
def policies():
    """Chosen on other subjects than those of the evidence."""
    valid, signal = simulate_stays(seed=5)
    p = simulate_predictions(signal)
    return {m: choose_policy(valid, p[m], TASK, CONFIG, BUDGET) for m in ("accurate", "noisy")}


@pytest.fixture(scope="module")
def judged(sequences, predictions, policies):
    known = {model: predictions[model] for model in policies}
    return evaluate(sequences, known, WITHOUT_RESAMPLES, 1, task=TASK, policies=policies)


def test_the_metrics_of_a_policy_are_those_of_its_alerts(judged, policies):
    metrics = judged.metrics("accurate")
    assert metrics["test.alerts.promise_kept"] == 1
    assert metrics["test.alerts.alerts_per_day"] <= 0.3
    low, high = (metrics[f"test.alerts.onsets_found.{end}"] for end in ("low", "high"))
    assert low < metrics["test.alerts.onsets_found"] < high
    rows = judged.leaderboard.filter(model="accurate", metric="alert_share", subset="all")
    # those of single rows know no silence
    assert metrics["test.alerts.alerts_per_day"] < rows["value"][0]
    assert judged.about["thresholds"]["accurate"] == policies["accurate"].threshold


def test_the_headline_ends_with_the_promise(judged):
    best = judged.models[0]
    assert judged.headline.endswith(judged.alerts[best].promise.sentence)
    assert "at most 0.3 alerts per patient-day" in judged.headline


def test_the_report_has_the_verdicts_and_the_files_keep_them(judged, tmp_path):
    judged.save(tmp_path)
    loaded = Evidence.load(tmp_path)
    assert loaded.alerts == judged.alerts
    page = render(ReportData(title="t", evidence=loaded, task=TASK))
    assert "As a ward receives them" in page
    assert "none within 48 h of another" in page
    assert page.count("Promised with 95% confidence") >= 2


def test_the_first_screen_counts_the_alerts_that_are_raised(judged):
    tiles = {tile.label: tile for tile in make_bedside(judged, TASK).tiles}
    alerts = judged.alerts[judged.models[0]]
    assert tiles["Alerts"].value == f"{alerts.alerts_per_day.value:.2g} per day"
    assert "repeated ones are silenced" in tiles["Alerts"].note
    assert tiles["Right alerts"].value == f"{alerts.ppv.value:.0%}"


def test_evidence_of_an_earlier_release_has_no_judged_alerts(judged):
    about = {key: value for key, value in judged.about.items() if key != "alerts"}
    earlier = Evidence(
        *(getattr(judged, name) for name in ("leaderboard", "pairs", "curves", "folds")),
        judged.lead_times,
        about,
    )
    assert earlier.alerts == {}
    assert make_policy_table(earlier, earlier.models, time_unit(TASK)) is None


def test_each_fold_is_judged_by_its_own_policy(sequences, predictions):
    subjects = np.array_split(np.unique(sequences.subject_id), 2)
    thresholds = (0.2, 0.6)
    folds = []
    is_alert = np.zeros(sequences.rows, bool)
    for k, (part, threshold) in enumerate(zip(subjects, thresholds, strict=True)):
        rows = np.isin(sequences.subject_id, part)[sequences.row_stay]
        p = predictions["accurate"]
        is_alert |= rows & (p >= threshold)
        folds.append(
            FoldPredictions(
                FoldId(f"1.{k + 1}", 0, k),
                subjects=part,
                n_training_subjects=10,
                predictions={"a": p[rows]},
                policies={"a": AlertPolicy(threshold=threshold)},
            )
        )
    evidence = evaluate_folds(sequences, folds, WITHOUT_RESAMPLES, 1, task=TASK)
    expected = is_alert[sequences.scored].mean()
    alerts = evidence.alerts["a"]
    assert alerts.alerts_per_day.value == pytest.approx(expected)
    assert "Each fold has a threshold of its own" in alerts.description
    assert alerts.promise is None
