"""Evaluation of predictions on held-out rows: values, intervals, pairs, and what is refused."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import average_precision_score, roc_auc_score

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.evaluation.leaderboard import render_leaderboard_markdown
from tests.evaluation.conftest import CONFIG, simulate_predictions, simulate_stays

WITHOUT_RESAMPLES = EvaluationConfig(name="fast", resamples=0)
EARLY_WARNING = TaskConfig(name="early", step_hours=1, horizon=6, censor="keep")


@pytest.fixture(scope="module")
def evidence(sequences, predictions):
    return evaluate(sequences, predictions, CONFIG, seed=1)


def leaderboard_row(evidence, model, metric, subset="all"):
    rows = evidence.leaderboard.filter(model=model, metric=metric, subset=subset)
    return rows.row(0, named=True)


@pytest.mark.parametrize("subset", ["all", "new_onsets"])
def test_only_scored_rows_count(sequences, predictions, evidence, subset):
    rows = sequences.scored if subset == "all" else sequences.scored & ~sequences.in_state
    y = sequences.y[rows]
    auroc = leaderboard_row(evidence, "accurate", "auroc", subset)
    auprc = leaderboard_row(evidence, "noisy", "auprc", subset)
    assert auroc["value"] == pytest.approx(roc_auc_score(y, predictions["accurate"][rows]))
    assert auprc["value"] == pytest.approx(average_precision_score(y, predictions["noisy"][rows]))
    assert (auroc["rows"], auroc["events"]) == (rows.sum(), y.sum())


def test_predictions_of_unscored_rows_do_not_matter(sequences, predictions, evidence):
    changed = {m: np.where(sequences.scored, p, 0.5) for m, p in predictions.items()}
    leaderboard = evaluate(sequences, changed, CONFIG, seed=1).leaderboard
    assert_frame_equal(leaderboard, evidence.leaderboard)


def test_models_are_ranked_and_compared(evidence):
    assert evidence.models[-1] == "noisy"
    pairs = evidence.pairs.filter(metric="auroc", subset="all")
    assert len(pairs) == 3
    with_noisy = pairs.filter(model_a="accurate", model_b="noisy").row(0, named=True)
    assert with_noisy["verdict"] == "better"
    expected = "accurate is better than noisy by AUROC (difference +0."
    assert with_noisy["summary"].startswith(expected)
    with_similar = pairs.filter(pl.col("model_b") != "noisy").row(0, named=True)
    assert with_similar["verdict"] == "not distinguishable"
    assert "not distinguishable by AUROC at this sample size" in with_similar["summary"]
    assert "it is better than noisy" in evidence.headline


def test_a_smaller_loss_is_better(evidence):
    pairs = evidence.pairs.filter(metric="brier", subset="all")
    pair = pairs.filter(model_a="accurate", model_b="noisy").row(0, named=True)
    assert pair["difference"] < 0
    assert pair["verdict"] == "better"


def test_differences_are_those_of_the_leaderboard(evidence):
    for pair in evidence.pairs.iter_rows(named=True):
        a, b = (
            leaderboard_row(evidence, pair[side], pair["metric"], pair["subset"])["value"]
            for side in ("model_a", "model_b")
        )
        assert pair["difference"] == pytest.approx(a - b, abs=1e-12)
        assert pair["low"] <= pair["difference"] <= pair["high"]


def test_intervals_contain_their_values(evidence):
    leaderboard = evidence.leaderboard.filter(pl.col("low").is_not_nan())
    assert {"auroc", "auprc", "brier", "log_loss", "calibration_slope"} <= set(
        leaderboard["metric"]
    )
    assert (leaderboard["low"] < leaderboard["value"]).all()
    assert (leaderboard["value"] < leaderboard["high"]).all()


def test_equal_inputs_give_equal_evidence(sequences, predictions, evidence):
    reversed_models = dict(reversed(predictions.items()))
    repeated = evaluate(sequences, reversed_models, CONFIG, seed=1)
    for name in ("leaderboard", "pairs", "curves"):
        table, expected = getattr(repeated, name), getattr(evidence, name)
        assert_frame_equal(table, expected, check_exact=True)


def test_another_seed_gives_other_intervals(sequences, predictions, evidence):
    other = evaluate(sequences, predictions, CONFIG, seed=2)
    assert not other.leaderboard["low"].equals(evidence.leaderboard["low"])


def test_the_order_of_stays_does_not_matter(sequences, predictions, evidence):
    order = np.random.default_rng(4).permutation(len(sequences))
    offsets = sequences.offsets
    rows = np.concatenate([np.arange(offsets[s], offsets[s + 1]) for s in order])
    shuffled_predictions = {model: p[rows] for model, p in predictions.items()}
    shuffled = evaluate(sequences.take(order), shuffled_predictions, CONFIG, seed=1)
    assert_frame_equal(shuffled.leaderboard, evidence.leaderboard, abs_tol=1e-12)


def test_saved_evidence_is_loaded_unchanged(evidence, tmp_path):
    evidence.save(tmp_path)
    loaded = Evidence.load(tmp_path)
    assert loaded.about == evidence.about
    for name in ("leaderboard", "pairs", "curves"):
        assert_frame_equal(getattr(loaded, name), getattr(evidence, name))


def test_metrics_for_a_tracker_are_flat(evidence):
    flat = evidence.metrics("accurate")
    assert flat["test.auroc.low"] < flat["test.auroc"] < flat["test.auroc.high"]
    assert "test.new_onsets.auprc" in flat
    assert "test.ece" in flat
    assert "test.ece.low" not in flat
    assert not any(math.isnan(value) for value in flat.values())


def test_without_events_nothing_is_estimable(sequences, predictions):
    without_events = dataclasses.replace(sequences, y=np.zeros_like(sequences.y))
    evidence = evaluate(without_events, predictions, CONFIG, seed=1)
    assert evidence.leaderboard["value"].is_nan().all()
    assert evidence.leaderboard["reason"].str.contains("0 (rows|stays) with the event").all()
    assert (evidence.pairs["verdict"] == "not estimable").all()
    assert evidence.curves.is_empty()
    assert evidence.metrics("accurate") == {}
    assert "No model can be ranked by AUROC" in render_leaderboard_markdown(evidence)


def test_without_scored_rows_nothing_is_estimable(sequences, predictions):
    unscored = dataclasses.replace(sequences, scored=np.zeros_like(sequences.scored))
    evidence = evaluate(unscored, predictions, CONFIG, seed=1)
    assert evidence.leaderboard["value"].is_nan().all()


def test_without_stays_nothing_is_estimable(sequences):
    empty = sequences.take(np.zeros(0, np.int64))
    evidence = evaluate(empty, {"m": np.zeros(0)}, CONFIG, seed=1)
    assert evidence.leaderboard["value"].is_nan().all()


def test_without_resamples_there_are_values_and_no_verdicts(sequences, predictions):
    evidence = evaluate(sequences, predictions, WITHOUT_RESAMPLES, seed=1)
    assert leaderboard_row(evidence, "accurate", "auroc")["value"] > 0.5
    assert evidence.leaderboard["low"].is_nan().all()
    assert (evidence.pairs["verdict"] == "not estimable").all()


def test_a_single_model_has_no_pairs(sequences, predictions):
    evidence = evaluate(sequences, {"only": predictions["accurate"]}, CONFIG, seed=1)
    assert evidence.pairs.is_empty()
    assert evidence.headline.startswith(
        "only ranks first by AUROC among patients not yet septic (0."
    )


def test_new_onsets_are_left_out_where_they_are_all_rows(sequences, predictions):
    never_septic = dataclasses.replace(sequences, in_state=np.zeros_like(sequences.in_state))
    evidence = evaluate(never_septic, predictions, CONFIG, seed=1)
    assert evidence.about["subsets"] == ["all", "stays"]


def test_subgroups_have_counts_and_reasons(sequences, predictions):
    sex = np.where(np.arange(len(sequences)) % 2 == 0, "F", "M").tolist()
    sex[0] = None
    groups = pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex}).reverse()
    evidence = evaluate(sequences, predictions, CONFIG, seed=1, subgroups=groups)
    subgroups = evidence.about["subsets"][3:]
    assert subgroups == ["sex: F", "sex: M", "sex: unknown"]
    rows = [leaderboard_row(evidence, "accurate", "auroc", subset)["rows"] for subset in subgroups]
    assert sum(rows) == leaderboard_row(evidence, "accurate", "auroc")["rows"]
    assert leaderboard_row(evidence, "accurate", "auroc", "sex: unknown")["reason"] is not None
    assert not any("sex" in name for name in evidence.metrics("accurate"))


def test_groups_of_an_enum_keep_its_order(sequences, predictions):
    bands = pl.Enum(["under 45", "45 to 65", "65 and over"])
    ages = [bands.categories[i % 3] for i in range(len(sequences))]
    age = pl.Series("age", ages, dtype=bands)
    groups = pl.DataFrame({"stay_id": sequences.stay_id, "age": age})
    evidence = evaluate(sequences, predictions, WITHOUT_RESAMPLES, seed=1, subgroups=groups)
    expected = ["age: under 45", "age: 45 to 65", "age: 65 and over"]
    assert evidence.about["subsets"][3:] == expected


def test_alert_metrics_need_thresholds(sequences, predictions, evidence):
    assert "f_measure" not in set(evidence.leaderboard["metric"])
    policies = make_policies(dict.fromkeys(predictions, 0.3))
    with_alerts = evaluate(sequences, predictions, CONFIG, seed=1, policies=policies)
    assert {"f_measure", "accuracy"} <= set(with_alerts.leaderboard["metric"])
    assert "normalised_utility" not in set(with_alerts.leaderboard["metric"])


def test_the_utility_is_for_the_hourly_early_warning_only(sequences, predictions):
    policies = make_policies(dict.fromkeys(predictions, 0.3))
    hourly, daily = (
        evaluate(sequences, predictions, CONFIG, seed=1, task=task, policies=policies)
        for task in (EARLY_WARNING, TaskConfig(name="daily"))
    )
    assert set(hourly.leaderboard.filter(metric="normalised_utility")["subset"]) == {"all"}
    assert "normalised_utility" not in set(daily.leaderboard["metric"])


def test_the_configuration_chooses_the_operating_points(sequences, predictions):
    config = EvaluationConfig(
        name="points", resamples=0, operating_points={"ppv_at_alert_rate": (0.02,)}
    )
    metrics = set(evaluate(sequences, predictions, config, seed=1).leaderboard["metric"])
    assert "ppv_at_alert_rate_2" in metrics
    assert not any(name.startswith("net_benefit") for name in metrics)


def test_an_operating_point_can_rank_the_leaderboard(sequences, predictions):
    config = EvaluationConfig(
        name="points", resamples=0, metric="specificity_at_sensitivity_90", operating_points={}
    )
    evidence = evaluate(sequences, predictions, config, seed=1)
    assert evidence.models[-1] == "noisy"
    assert "ranks first by Specificity at 90% sensitivity" in evidence.headline


def test_an_operating_point_out_of_range_is_refused(sequences, predictions):
    config = EvaluationConfig(name="points", operating_points={"net_benefit_at": (5,)})
    with pytest.raises(UsageError, match="above 0 and below 1"):
        evaluate(sequences, predictions, config, seed=1)


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.5, np.inf])
def test_a_prediction_that_is_no_probability_is_refused(sequences, predictions, wrong):
    p = predictions["accurate"].copy()
    p[int(sequences.offsets[5])] = wrong
    with pytest.raises(CheckFailed, match="not probabilities") as error:
        evaluate(sequences, {"accurate": p}, CONFIG, seed=1)
    assert f"stay {sequences.stay_id[5]}, step 1" in str(error.value)


def test_a_missing_prediction_is_refused(sequences, predictions):
    with pytest.raises(CheckFailed, match="probabilities for"):
        evaluate(sequences, {"accurate": predictions["accurate"][:-1]}, CONFIG, seed=1)


def test_a_metric_with_an_ideal_value_ranks_by_the_distance_from_it(sequences, predictions):
    config = EvaluationConfig(name="slope", resamples=0, metric="calibration_slope")
    assert evaluate(sequences, predictions, config, seed=1).models[-1] == "noisy"


def test_a_metric_that_is_not_applicable_ranks_no_model(sequences, predictions):
    config = EvaluationConfig(name="utility", resamples=0, metric="normalised_utility")
    evidence = evaluate(sequences, predictions, config, seed=1)
    assert evidence.models == sorted(predictions)
    expected = "No model can be ranked by Normalised utility: it requires whole stays."
    assert evidence.headline == expected


def test_two_subjects_are_enough_to_evaluate():
    sequences, signal = simulate_stays(n_subjects=2, seed=3)
    evidence = evaluate(sequences, simulate_predictions(signal), CONFIG, seed=1)
    assert len(evidence.leaderboard) > 0


def test_rows_before_treatment_are_a_subset_with_its_own_metrics(sequences, predictions):
    before = sequences.step <= 3
    known = dataclasses.replace(sequences, before_treatment=before)
    evidence = evaluate(known, predictions, WITHOUT_RESAMPLES, seed=1)
    assert evidence.about["subsets"] == ["all", "new_onsets", "before_treatment", "stays"]
    rows = sequences.scored & before
    expected = roc_auc_score(sequences.y[rows], predictions["accurate"][rows])
    metrics = evidence.metrics("accurate")
    assert metrics["test.before_treatment.auroc"] == pytest.approx(expected)


@pytest.mark.parametrize("value", [None, True])
def test_rows_before_treatment_are_left_out_where_they_are_all_rows(sequences, predictions, value):
    before = None if value is None else np.full(sequences.rows, value)
    known = dataclasses.replace(sequences, before_treatment=before)
    evidence = evaluate(known, predictions, WITHOUT_RESAMPLES, seed=1)
    assert "before_treatment" not in evidence.about["subsets"]


def test_without_a_row_before_treatment_the_reason_is_told(sequences, predictions):
    known = dataclasses.replace(sequences, before_treatment=np.zeros(sequences.rows, bool))
    evidence = evaluate(known, predictions, WITHOUT_RESAMPLES, seed=1)
    row = leaderboard_row(evidence, "accurate", "auroc", "before_treatment")
    assert (row["rows"], row["reason"]) == (
        0,
        "0 rows with the event, 0 without; at least 5 of both are needed",
    )


def test_curves_weight_their_rows(sequences, predictions):
    """A decision curve and a calibration curve of rows that count twice are those of twice the
    rows; a ROC curve of rows without the event that count twice is unchanged."""
    twice = dataclasses.replace(sequences, weight=np.where(sequences.y == 1, 1.0, 2.0))
    curves, weighted = (
        evaluate(s, {"a": predictions["accurate"]}, WITHOUT_RESAMPLES, seed=1).curves.filter(
            subset="all"
        )
        for s in (sequences, twice)
    )
    assert curves.filter(curve="roc").equals(weighted.filter(curve="roc"))
    y = sequences.y[sequences.scored]
    p = predictions["accurate"][sequences.scored]
    weight = np.where(y == 1, 1.0, 2.0)
    threshold, benefit = weighted.filter(curve="decision", x=0.2).select("x", "y").row(0)
    is_alert = p >= threshold
    true = (weight * (is_alert & (y == 1))).sum() / weight.sum()
    false = (weight * (is_alert & (y == 0))).sum() / weight.sum()
    assert benefit == pytest.approx(true - false * 0.25)


def test_new_onset_subgroups_are_patients_not_yet_in_the_state(sequences, predictions, tmp_path):
    sex = [("F", "M")[s % 2] for s in range(len(sequences))]
    groups = pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex})
    evidence = evaluate(sequences, predictions, CONFIG, seed=1, subgroups=groups)
    evidence.save(tmp_path)
    assert not (tmp_path / "subgroups.parquet").exists()  # is the table of the stays' groups
    rows = Evidence.load(tmp_path).new_onset_subgroups.filter(metric="auroc", model="accurate")
    assert rows["subset"].to_list() == ["sex: F", "sex: M"]
    assert rows["rows"].sum() == (sequences.scored & ~sequences.in_state).sum()


def test_sentences_have_titles_and_frames_have_names(sequences, predictions, tmp_path):
    titles = {name: name.upper() for name in predictions}
    titled = evaluate(sequences, predictions, WITHOUT_RESAMPLES, seed=1, titles=titles)
    first = titled.models[0]
    assert titled.headline.startswith(f"{first.upper()} ranks first")
    assert not any(name in summary for summary in titled.pairs["summary"] for name in predictions)
    assert set(titled.leaderboard["model"]) == set(predictions)
    assert f"| {first.upper()} |" in render_leaderboard_markdown(titled)
    titled.save(tmp_path)
    shown = Evidence.load(tmp_path).with_titles()
    assert shown.models == [name.upper() for name in titled.models]
    for frame, column in (("leaderboard", "model"), ("curves", "model"), ("pairs", "model_b")):
        assert set(getattr(shown, frame)[column]) <= set(titles.values())
    assert_frame_equal(shown.with_titles().leaderboard, shown.leaderboard)


def test_models_with_one_title_can_be_told_apart(sequences, predictions):
    names = list(predictions)[:2]
    titles = dict.fromkeys(names, "LSTM")
    two = {name: predictions[name] for name in names}
    evidence = evaluate(sequences, two, WITHOUT_RESAMPLES, seed=1, titles=titles)
    assert set(evidence.titles.values()) == {f"LSTM ({name})" for name in names}
