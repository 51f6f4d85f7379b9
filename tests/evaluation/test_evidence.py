"""From probabilities to a leaderboard that says what it knows, and what it does not."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import average_precision_score, roc_auc_score

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.evaluation.leaderboard import leaderboard_markdown, leaderboard_table
from flowsheet.windows.sequences import Sequences

from .conftest import CONFIG, make_predictions, make_ward

HOURLY = TaskConfig(name="early", step_hours=1, horizon=6, censor="keep")


@pytest.fixture(scope="module")
def evidence(ward, predictions):
    return evaluate(ward[0], predictions, CONFIG, seed=1)


def figure(evidence, model, metric, subset="all"):
    chosen = (
        (pl.col("model") == model) & (pl.col("metric") == metric) & (pl.col("subset") == subset)
    )
    return evidence.leaderboard.filter(chosen).row(0, named=True)


def test_only_scored_rows_count(ward, predictions, evidence):
    sequences = ward[0]
    for subset, rows in (
        ("all", sequences.scored),
        ("new_onsets", sequences.scored & ~sequences.in_state),
    ):
        found = figure(evidence, "sharp", "auroc", subset)
        assert found["value"] == pytest.approx(
            roc_auc_score(sequences.y[rows], predictions["sharp"][rows])
        )
        assert (found["rows"], found["events"]) == (rows.sum(), sequences.y[rows].sum())
        found = figure(evidence, "blunt", "auprc", subset)
        assert found["value"] == pytest.approx(
            average_precision_score(sequences.y[rows], predictions["blunt"][rows])
        )
    changed = {m: np.where(sequences.scored, p, 0.5) for m, p in predictions.items()}
    assert_frame_equal(
        evaluate(sequences, changed, CONFIG, seed=1).leaderboard, evidence.leaderboard
    )


def test_models_are_ranked_and_compared(evidence):
    assert evidence.models[-1] == "blunt"
    rivals = evidence.pairs.filter(metric="auroc", subset="all")
    assert len(rivals) == 3
    against_blunt = rivals.filter(model_a="sharp", model_b="blunt").row(0, named=True)
    assert against_blunt["verdict"] == "better"
    assert against_blunt["summary"].startswith(
        "sharp is better than blunt by AUROC (difference +0."
    )
    twins = rivals.filter(pl.col("model_b") != "blunt").row(0, named=True)
    assert twins["verdict"] == "not distinguishable"
    assert "not distinguishable by AUROC at this sample size" in twins["summary"]
    assert "it is better than blunt" in evidence.headline


def test_a_smaller_loss_is_better(evidence):
    pair = evidence.pairs.filter(
        metric="brier", subset="all", model_a="sharp", model_b="blunt"
    ).row(0, named=True)
    assert pair["difference"] < 0
    assert pair["verdict"] == "better"


def test_differences_are_those_of_the_leaderboard(evidence):
    for pair in evidence.pairs.iter_rows(named=True):
        a, b = (
            figure(evidence, pair[m], pair["metric"], pair["subset"])["value"]
            for m in ("model_a", "model_b")
        )
        assert pair["difference"] == pytest.approx(a - b, abs=1e-12)
        assert pair["low"] <= pair["difference"] <= pair["high"]


def test_intervals_hold_their_figures(evidence):
    board = evidence.leaderboard.filter(pl.col("low").is_not_nan())
    assert {"auroc", "auprc", "brier", "log_loss", "calibration_slope"} <= set(board["metric"])
    assert (board["low"] < board["value"]).all()
    assert (board["value"] < board["high"]).all()


def test_the_same_input_gives_the_same_evidence(ward, predictions, evidence):
    again = evaluate(ward[0], dict(reversed(predictions.items())), CONFIG, seed=1)
    other = evaluate(ward[0], predictions, CONFIG, seed=2)
    assert_frame_equal(again.leaderboard, evidence.leaderboard, check_exact=True)
    assert_frame_equal(again.pairs, evidence.pairs, check_exact=True)
    assert_frame_equal(again.curves, evidence.curves, check_exact=True)
    assert not other.leaderboard["low"].equals(evidence.leaderboard["low"])


def test_the_order_of_stays_does_not_matter(ward, predictions, evidence):
    sequences = ward[0]
    order = np.random.default_rng(4).permutation(len(sequences))
    rows = np.concatenate(
        [np.arange(sequences.offsets[s], sequences.offsets[s + 1]) for s in order]
    )
    shuffled = evaluate(
        sequences.take(order), {m: p[rows] for m, p in predictions.items()}, CONFIG, seed=1
    )
    assert_frame_equal(shuffled.leaderboard, evidence.leaderboard, abs_tol=1e-12)


def test_it_survives_being_saved(evidence, tmp_path):
    evidence.save(tmp_path)
    loaded = Evidence.load(tmp_path)
    assert loaded.about == evidence.about
    for name in ("leaderboard", "pairs", "curves"):
        assert_frame_equal(getattr(loaded, name), getattr(evidence, name))


def test_flat_metrics_for_a_tracker(evidence):
    flat = evidence.metrics("sharp")
    assert flat["test.auroc.low"] < flat["test.auroc"] < flat["test.auroc.high"]
    assert "test.new_onsets.auprc" in flat
    assert "test.ece" in flat
    assert "test.ece.low" not in flat
    assert not any(math.isnan(value) for value in flat.values())


def test_too_few_events_are_not_estimable(ward, predictions):
    sequences = dataclasses.replace(ward[0], y=np.zeros_like(ward[0].y))
    evidence = evaluate(sequences, predictions, CONFIG, seed=1)
    assert evidence.leaderboard["value"].is_nan().all()
    assert evidence.leaderboard["reason"].str.contains("0 (rows|stays) with the event").all()
    assert (evidence.pairs["verdict"] == "not estimable").all()
    assert evidence.curves.is_empty()
    assert evidence.metrics("sharp") == {}
    assert "No model can be ranked by AUROC" in leaderboard_markdown(evidence)


def test_no_rows_are_not_estimable(ward, predictions):
    sequences = dataclasses.replace(ward[0], scored=np.zeros_like(ward[0].scored))
    evidence = evaluate(sequences, predictions, CONFIG, seed=1)
    assert evidence.leaderboard["value"].is_nan().all()
    empty = sequences.take(np.zeros(0, np.int64))
    assert evaluate(empty, {"m": np.zeros(0)}, CONFIG, seed=1).leaderboard["value"].is_nan().all()


def test_without_resamples_there_are_figures_and_no_verdicts(ward, predictions):
    evidence = evaluate(ward[0], predictions, EvaluationConfig(name="bare", resamples=0), seed=1)
    assert figure(evidence, "sharp", "auroc")["value"] > 0.5
    assert evidence.leaderboard["low"].is_nan().all()
    assert (evidence.pairs["verdict"] == "not estimable").all()


def test_one_model_has_no_rival(ward, predictions):
    evidence = evaluate(ward[0], {"sharp": predictions["sharp"]}, CONFIG, seed=1)
    assert evidence.pairs.is_empty()
    assert evidence.headline.startswith("sharp ranks first by AUROC (0.")


def test_transitions_in_that_are_all_rows_are_not_told_twice(ward, predictions):
    sequences = dataclasses.replace(ward[0], in_state=np.zeros_like(ward[0].in_state))
    assert evaluate(sequences, predictions, CONFIG, seed=1).about["subsets"] == ["all", "stays"]


def test_subgroups_have_counts_and_reasons(ward, predictions):
    sequences = ward[0]
    sex = np.where(np.arange(len(sequences)) % 2 == 0, "F", "M").tolist()
    sex[0] = None
    groups = pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex})
    evidence = evaluate(sequences, predictions, CONFIG, seed=1, subgroups=groups.reverse())
    assert evidence.about["subsets"][3:] == ["sex: F", "sex: M", "sex: not told"]
    per_group = [
        figure(evidence, "sharp", "auroc", subset)["rows"]
        for subset in evidence.about["subsets"][3:]
    ]
    assert sum(per_group) == figure(evidence, "sharp", "auroc")["rows"]
    assert figure(evidence, "sharp", "auroc", "sex: not told")["reason"] is not None
    assert not any("sex" in name for name in evidence.metrics("sharp"))


def test_bands_keep_their_order(ward, predictions):
    bands = pl.Enum(["under 45", "45 to 65", "65 and over"])
    age = pl.Series("age", [bands.categories[i % 3] for i in range(len(ward[0]))], dtype=bands)
    groups = pl.DataFrame({"stay_id": ward[0].stay_id, "age": age})
    evidence = evaluate(
        ward[0], predictions, EvaluationConfig(name="bare", resamples=0), seed=1, subgroups=groups
    )
    assert evidence.about["subsets"][3:] == ["age: under 45", "age: 45 to 65", "age: 65 and over"]


def test_alarms_count_only_with_thresholds(ward, predictions, evidence):
    assert "f_measure" not in set(evidence.leaderboard["metric"])
    rung = evaluate(
        ward[0], predictions, CONFIG, seed=1, thresholds=dict.fromkeys(predictions, 0.3)
    )
    assert {"f_measure", "accuracy"} <= set(rung.leaderboard["metric"])
    assert "normalised_utility" not in set(rung.leaderboard["metric"])


def test_utility_is_for_the_hourly_early_warning(ward, predictions):
    rings = dict.fromkeys(predictions, 0.3)
    evidence = evaluate(ward[0], predictions, CONFIG, seed=1, task=HOURLY, thresholds=rings)
    assert set(evidence.leaderboard.filter(metric="normalised_utility")["subset"]) == {"all"}
    daily = evaluate(
        ward[0], predictions, CONFIG, seed=1, task=TaskConfig(name="daily"), thresholds=rings
    )
    assert "normalised_utility" not in set(daily.leaderboard["metric"])


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.5, np.inf])
def test_what_is_no_probability_is_refused(ward, predictions, wrong):
    bad = predictions["sharp"].copy()
    bad[int(ward[0].offsets[5])] = wrong
    with pytest.raises(CheckFailed, match="not probabilities") as caught:
        evaluate(ward[0], {"sharp": bad}, CONFIG, seed=1)
    assert f"stay {ward[0].stay_id[5]}, step 1" in str(caught.value)


def test_a_missing_prediction_is_refused(ward, predictions):
    with pytest.raises(CheckFailed, match="probabilities for"):
        evaluate(ward[0], {"sharp": predictions["sharp"][:-1]}, CONFIG, seed=1)


def test_ranking_by_a_metric_with_its_best_in_the_middle(ward, predictions):
    config = EvaluationConfig(name="slope", resamples=0, metric="calibration_slope")
    assert evaluate(ward[0], predictions, config, seed=1).models[-1] == "blunt"


def test_ranking_by_what_the_rows_cannot_tell(ward, predictions):
    config = EvaluationConfig(name="utility", resamples=0, metric="normalised_utility")
    evidence = evaluate(ward[0], predictions, config, seed=1)
    assert evidence.models == sorted(predictions)
    assert (
        evidence.headline == "No model can be ranked by Normalised utility: it needs whole stays."
    )


def test_curves_begin_and_end_where_they_must(evidence):
    for (curve, _, _), points in evidence.curves.group_by(
        "curve", "subset", "model", maintain_order=True
    ):
        assert points["x"].is_sorted()
        assert len(points) <= 200
        ends = [
            (row["x"], row["y"]) for row in (points.row(0, named=True), points.row(-1, named=True))
        ]
        if curve == "roc":
            assert ends == [(0, 0), (1, 1)]
        if curve == "pr":
            assert ends[1][0] == 1
        if curve == "calibration":
            assert (
                points["rows"].sum()
                == figure(evidence, "sharp", "auroc", points["subset"][0])["rows"]
            )


def test_the_thinned_curve_keeps_its_area(evidence):
    points = evidence.curves.filter(curve="roc", subset="all", model="sharp")
    area = np.trapezoid(points["y"], points["x"])
    assert area == pytest.approx(figure(evidence, "sharp", "auroc")["value"], abs=0.003)


def test_tables_for_people(evidence):
    rows = leaderboard_table(evidence)
    assert rows[0][:3] == ["model", "AUROC", "AUPRC"]
    assert [row[0] for row in rows[1:]] == evidence.models
    text = leaderboard_markdown(evidence)
    assert text.startswith(evidence.headline)
    assert "| model | AUROC |" in text
    assert "95% intervals from 100 bootstrap resamples" in text


def test_a_ward_can_be_any_size():
    sequences, signal = make_ward(subjects=2, seed=3)
    assert isinstance(sequences, Sequences)
    assert len(evaluate(sequences, make_predictions(signal), CONFIG, seed=1).leaderboard) > 0
