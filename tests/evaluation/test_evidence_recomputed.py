"""All numbers of the evidence are recomputed from its tables and the predictions."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn import metrics as sk

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.bootstrap import ERROR_INFLATION, holm_adjust, resample_weights
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.evaluation.headline import write_headline
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.ranking import ModelRanking

CONFIG = EvaluationConfig(name="small", resamples=60, minimum_events=5)
SKLEARN = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "brier": sk.brier_score_loss,
}


@pytest.fixture(scope="module")
def evidence(sequences, predictions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    sex = [("F", "M")[s % 2] for s in range(len(sequences))]
    evaluate(
        sequences,
        predictions,
        CONFIG,
        seed=3,
        task=TaskConfig(name="daily"),
        policies=make_policies(dict.fromkeys(predictions, 0.3)),
        subgroups=pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex}),
    ).save(folder)
    return Evidence.load(folder)


def rows_by_subset(sequences):
    stay_is_odd = (np.arange(len(sequences)) % 2)[sequences.row_stay]
    return {
        "all": sequences.scored,
        "new_onsets": sequences.scored & ~sequences.in_state,
        "sex: F": sequences.scored & (stay_is_odd == 0),
        "sex: M": sequences.scored & (stay_is_odd == 1),
    }


def test_the_leaderboard_equals_scikit_learn(sequences, predictions, evidence):
    for subset, rows in rows_by_subset(sequences).items():
        for model, p in predictions.items():
            leaderboard = evidence.leaderboard.filter(subset=subset, model=model)
            assert leaderboard["rows"].unique().to_list() == [rows.sum()]
            for name, sklearn_metric in SKLEARN.items():
                value = leaderboard.filter(metric=name)["value"].item()
                expected = sklearn_metric(sequences.y[rows], p[rows])
                assert value == pytest.approx(expected, abs=1e-12)


def resampled_values(sequences, p, name):
    """The metric in each resample, computed by scikit-learn with sample weights."""
    rows = sequences.scored
    subjects, subject_of_stay = np.unique(sequences.subject_id, return_inverse=True)
    batches = resample_weights(len(subjects), CONFIG.resamples, 3)
    weights = np.concatenate(list(batches), axis=1)
    row_weights = weights[subject_of_stay[sequences.row_stay[rows]]]
    return np.array(
        [SKLEARN[name](sequences.y[rows], p[rows], sample_weight=w) for w in row_weights.T]
    )


@pytest.mark.parametrize("name", SKLEARN)
def test_intervals_are_percentiles_of_the_resamples(sequences, predictions, evidence, name):
    for row in evidence.leaderboard.filter(subset="all", metric=name).iter_rows(named=True):
        draws = resampled_values(sequences, predictions[row["model"]], name)
        expected = np.quantile(draws, [0.025, 0.975])
        assert (row["low"], row["high"]) == pytest.approx(expected)


@pytest.mark.parametrize("name", SKLEARN)
def test_differences_are_tested_by_the_resamples(sequences, predictions, evidence, name):
    draws = {model: resampled_values(sequences, p, name) for model, p in predictions.items()}
    leaderboard = evidence.leaderboard.filter(subset="all", metric=name)
    value, n_subjects = (
        dict(leaderboard.select("model", "value").iter_rows()),
        leaderboard["subjects"][0],
    )
    pairs = evidence.pairs.filter(subset="all", metric=name)
    for pair in pairs.iter_rows(named=True):
        a, b = pair["model_a"], pair["model_b"]
        spread = ERROR_INFLATION * np.std(draws[a] - draws[b], ddof=1)
        error = spread * np.sqrt(n_subjects / (n_subjects - 1))
        difference = value[a] - value[b]
        margin = stats.t.ppf(0.975, n_subjects - 1) * error
        expected = (difference, difference - margin, difference + margin)
        assert (pair["difference"], pair["low"], pair["high"]) == pytest.approx(expected)
        p = 2 * stats.t.sf(abs(difference) / error, n_subjects - 1)
        assert pair["p"] == pytest.approx(p, rel=1e-6)
    assert pairs["p_holm"].to_list() == pytest.approx(holm_adjust(pairs["p"].to_list()))


def test_verdicts_follow_from_the_corrected_p_values(evidence):
    for pair in evidence.pairs.iter_rows(named=True):
        assert pair["verdict"] in {"better", "worse", "not distinguishable", "not estimable"}
        assert (pair["verdict"] in {"better", "worse"}) == (pair["p_holm"] < 0.05)
        if pair["verdict"] == "better":
            is_larger = pair["difference"] > 0
            assert is_larger == get_metric(pair["metric"]).larger_is_better
        assert pair["verdict"] in pair["summary"] or pair["verdict"] == "not estimable"


def test_the_headline_follows_from_the_tables(evidence):
    best = evidence.models[0]
    ranking = ModelRanking(evidence.models, evidence.ranking_subset, best_over_all_rows=best)
    headline = write_headline(evidence.leaderboard, evidence.pairs, get_metric("auroc"), ranking)
    assert evidence.headline == headline


def test_curves_agree_with_the_leaderboard(sequences, predictions, evidence):
    for model, p in predictions.items():
        leaderboard = evidence.leaderboard.filter(subset="all", model=model)
        curves = evidence.curves.filter(subset="all", model=model)
        for percent in (5, 20):
            point = curves.filter(pl.col("x") == percent / 100, curve="decision")
            expected = leaderboard.filter(metric=f"net_benefit_at_{percent}")["value"].item()
            assert point["y"].item() == pytest.approx(expected, abs=1e-12)
        bins = curves.filter(curve="calibration")
        scored = sequences.scored
        assert (bins["x"] * bins["rows"]).sum() == pytest.approx(p[scored].sum())
        assert (bins["y"] * bins["rows"]).sum() == pytest.approx(sequences.y[scored].sum())
        roc = curves.filter(curve="roc")
        auroc = leaderboard.filter(metric="auroc")["value"].item()
        assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(auroc, abs=0.003)


def test_lead_times_agree_with_the_leaderboard(evidence):
    leaderboard = evidence.leaderboard.filter(subset="stays")
    for (model,), counts in evidence.lead_times.group_by("model"):
        hours = np.repeat(counts["hours"].to_numpy(), counts["episodes"].to_numpy())
        assert len(hours) == leaderboard["events"][0]
        values = dict(leaderboard.filter(model=model).select("metric", "value").iter_rows())
        assert values["lead_time"] == np.nanmedian(hours)
        assert values["episodes_detected"] == pytest.approx(np.isfinite(hours).mean())


def test_models_may_have_any_name(sequences, predictions):
    names = {"lstm (run a)": "accurate", "lstm: run b | <i>": "similar"}
    renamed = {name: predictions[model] for name, model in names.items()}
    evidence = evaluate(sequences, renamed, CONFIG, seed=1)
    plain = evaluate(sequences, {m: predictions[m] for m in names.values()}, CONFIG, seed=1)
    assert set(evidence.models) == set(names)
    assert evidence.metrics("lstm: run b | <i>")["test.auroc"] > 0.5
    assert evidence.leaderboard["value"].to_list() == plain.leaderboard["value"].to_list()


def test_reversed_stays_give_the_same_results(sequences, predictions):
    evidence = evaluate(sequences, predictions, CONFIG, seed=3)
    order, offsets = np.arange(len(sequences))[::-1], sequences.offsets
    rows = np.concatenate([np.arange(offsets[s], offsets[s + 1]) for s in order])
    reversed_predictions = {model: p[rows] for model, p in predictions.items()}
    reversed_stays = evaluate(sequences.take(order), reversed_predictions, CONFIG, seed=3)
    values, expected = reversed_stays.leaderboard["value"], evidence.leaderboard["value"]
    assert np.allclose(values, expected, rtol=1e-12, equal_nan=True)
    assert reversed_stays.pairs["verdict"].equals(evidence.pairs["verdict"])
