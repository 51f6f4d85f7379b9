"""Cross-validation: pooled predictions, scores by fold, and comparisons over the folds."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from flowsheet.config import Protocol, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.bootstrap import holm_adjust
from flowsheet.evaluation.evidence import Evidence, evaluate, evaluate_folds
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.headline import write_headline
from flowsheet.evaluation.leaderboard import describe_intervals, render_leaderboard_markdown
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.ranking import ModelRanking
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.resampled_t import corrected_t_test
from flowsheet.windows.protocol import FoldId
from tests.evaluation.conftest import CONFIG, simulate_predictions

N_FOLDS, DAILY = 4, TaskConfig(name="daily")


def make_folds(sequences, signal, repeats=2, with_policies=True):
    """Each repetition splits the subjects at random, and its models have other errors."""
    subjects = np.unique(sequences.subject_id)
    folds = []
    for repeat in range(repeats):
        fold_of_subject = np.random.default_rng(repeat).permutation(len(subjects)) % N_FOLDS
        predictions = simulate_predictions(signal, seed=repeat + 5)
        for k in range(N_FOLDS):
            held_out = subjects[fold_of_subject == k]
            rows = np.isin(sequences.subject_id, held_out)[sequences.row_stay]
            thresholds = dict.fromkeys(predictions, 0.2 + 0.1 * k) if with_policies else {}
            folds.append(
                FoldPredictions(
                    FoldId(f"{repeat + 1}.{k + 1}", repeat, k),
                    held_out,
                    n_training_subjects=len(subjects) - len(held_out),
                    predictions={model: p[rows] for model, p in predictions.items()},
                    policies=make_policies(thresholds),
                )
            )
    return folds


@pytest.fixture(scope="module")
def folds(stays_and_signal):
    return make_folds(*stays_and_signal)


@pytest.fixture(scope="module")
def evidence(sequences, folds):
    return evaluate_folds(sequences, folds, CONFIG, seed=1, task=DAILY)


def test_one_repetition_is_evaluated_as_its_pooled_predictions(stays_and_signal):
    sequences, signal = stays_and_signal
    folds = make_folds(sequences, signal, repeats=1, with_policies=False)
    cross_validated = evaluate_folds(sequences, folds, CONFIG, seed=1)
    held_out = evaluate(sequences, simulate_predictions(signal, seed=5), CONFIG, seed=1)
    assert_frame_equal(cross_validated.leaderboard, held_out.leaderboard)
    assert_frame_equal(cross_validated.curves, held_out.curves)
    assert held_out.folds.is_empty()
    assert held_out.about["cross_validation"] is None


def test_the_leaderboard_is_the_mean_of_the_repetitions(evidence):
    pooled = evidence.folds.filter(pl.col("fold").is_null())
    mean = pooled.group_by("subset", "model", "metric").agg(pl.col("value").mean())
    leaderboard = evidence.leaderboard.filter(~pl.col("subset").str.contains(":"))
    joined = leaderboard.join(mean, on=["subset", "model", "metric"], validate="1:1")
    assert len(joined) == len(leaderboard)
    assert np.allclose(joined["value"], joined["value_right"], equal_nan=True, rtol=1e-12)


def test_alerts_use_the_threshold_of_their_fold(sequences, folds, evidence):
    p, is_alert = np.zeros(sequences.rows), np.zeros(sequences.rows, bool)
    for fold in folds[:N_FOLDS]:
        rows = np.isin(sequences.subject_id, fold.subjects)[sequences.row_stay]
        p[rows] = fold.predictions["accurate"]
        is_alert[rows] = fold.predictions["accurate"] >= fold.policies["accurate"].threshold
    is_correct = is_alert == (sequences.y == 1)
    pooled = evidence.folds.filter(pl.col("fold").is_null(), repeat=0, subset="all")
    values = dict(pooled.filter(model="accurate").select("metric", "value").iter_rows())
    auroc = roc_auc_score(sequences.y[sequences.scored], p[sequences.scored])
    assert values["accuracy"] == pytest.approx(is_correct[sequences.scored].mean())
    assert values["auroc"] == pytest.approx(auroc)


def test_a_fold_has_the_values_of_its_own_subjects(sequences, folds, evidence):
    fold = folds[1]
    held_out = sequences.select_subjects(fold.subjects)
    row = evidence.folds.filter(repeat=0, fold=1, subset="all", model="noisy", metric="auroc").row(
        0, named=True
    )
    p = fold.predictions["noisy"][held_out.scored]
    assert row["value"] == pytest.approx(roc_auc_score(held_out.y[held_out.scored], p))
    assert row["rows"] == held_out.scored.sum()
    assert row["subjects"] == np.unique(held_out.subject_id).size


def test_pairs_can_be_recomputed_from_the_folds(evidence):
    facts = evidence.about["cross_validation"]
    assert (facts["repeats"], facts["folds"]) == (2, N_FOLDS)
    folds = evidence.folds.filter(pl.col("fold").is_not_null()).sort("repeat", "fold")
    for (subset, metric), pairs in evidence.pairs.group_by("subset", "metric", maintain_order=True):
        values = folds.filter(subset=subset, metric=metric)
        p_values = []
        for pair in pairs.iter_rows(named=True):
            a = values.filter(model=pair["model_a"])["value"].to_numpy()
            b = values.filter(model=pair["model_b"])["value"].to_numpy()
            difference = corrected_t_test(a - b, facts["test_to_training"], 0.95)
            expected = (pair["difference"], pair["low"], pair["high"], pair["p"])
            assert dataclasses.astuple(difference) == pytest.approx(expected, nan_ok=True)
            p_values.append(difference.p)
        assert pairs["p_holm"].to_list() == pytest.approx(holm_adjust(p_values), nan_ok=True)


def test_the_headline_can_be_rewritten_from_the_tables(evidence):
    best = evidence.models[0]
    ranking = ModelRanking(evidence.models, evidence.ranking_subset, best_over_all_rows=best)
    headline = write_headline(evidence.leaderboard, evidence.pairs, get_metric("auroc"), ranking)
    assert headline == evidence.headline


def test_pairs_of_sites_are_compared_by_resamples(stays_and_signal):
    sequences, signal = stays_and_signal
    by_site = CONFIG.model_copy(update={"protocol": Protocol.site})
    folds = make_folds(sequences, signal, repeats=1, with_policies=False)
    cross_validated = evaluate_folds(sequences, folds, by_site, seed=1)
    held_out = evaluate(sequences, simulate_predictions(signal, seed=5), CONFIG, seed=1)
    assert_frame_equal(cross_validated.pairs, held_out.pairs)
    page = render(ReportData("sites", cross_validated))
    assert "had not seen the site" in page
    assert "Nadeau" not in page


def test_summaries_name_the_folds_of_a_mean_difference(evidence):
    pairs = evidence.pairs.filter(metric="auroc")
    summary = pairs.filter(subset="all", model_b="noisy")["summary"][0]
    assert f"mean difference over {2 * N_FOLDS} folds +0." in summary
    assert "per stay" in pairs.filter(subset="stays")["summary"][0]
    assert "Cross-validation with 4 folds" in describe_intervals(evidence)
    assert "means of 2 repetitions" in render_leaderboard_markdown(evidence)


def test_the_order_of_folds_does_not_matter(sequences, folds, evidence):
    reversed_folds = evaluate_folds(sequences, folds[::-1], CONFIG, seed=1, task=DAILY)
    for name in ("leaderboard", "pairs", "curves", "folds", "lead_times"):
        table, expected = getattr(reversed_folds, name), getattr(evidence, name)
        assert_frame_equal(table, expected, check_exact=True)


def test_saved_evidence_is_loaded_unchanged(evidence, tmp_path):
    evidence.save(tmp_path)
    loaded = Evidence.load(tmp_path)
    assert_frame_equal(loaded.folds, evidence.folds)
    assert loaded.about == evidence.about


def test_lead_times_are_counted_for_each_repetition(evidence):
    lead_times = evidence.lead_times
    assert set(lead_times["repeat"]) == {0, 1}
    n_onsets = lead_times.group_by("repeat", "model").agg(pl.col("episodes").sum())["episodes"]
    leaderboard = evidence.leaderboard.filter(subset="stays", model="accurate")
    assert n_onsets.unique().to_list() == [leaderboard.filter(metric="lead_time")["events"].item()]
    n_detected = pl.col("episodes").filter(pl.col("hours").is_not_null()).sum()
    by_repetition = (
        lead_times.filter(model="accurate")
        .group_by("repeat")
        .agg(
            share=n_detected / pl.col("episodes").sum(),
            median=pl.col("hours").repeat_by("episodes").explode().median(),
        )
    )
    values = dict(leaderboard.select("metric", "value").iter_rows())
    assert values["episodes_detected"] == pytest.approx(by_repetition["share"].mean())
    assert values["lead_time"] == pytest.approx(by_repetition["median"].mean())


def test_a_subject_held_out_twice_or_never_is_refused(sequences, folds):
    for wrong in (folds[:-1], [*folds, folds[0]], []):
        with pytest.raises(CheckFailed, match=r"no fold|holds out"):
            evaluate_folds(sequences, wrong, CONFIG, seed=1)


def test_a_fold_without_a_model_or_a_row_is_refused(sequences, folds):
    predictions = folds[2].predictions
    without_model = {model: p for model, p in predictions.items() if model != "similar"}
    without_row = {model: p[:-1] for model, p in predictions.items()}
    for wrong, message in (
        (without_model, "where other folds have"),
        (without_row, "probabilities for"),
    ):
        wrong_fold = dataclasses.replace(folds[2], predictions=wrong)
        with pytest.raises(CheckFailed, match=message) as error:
            evaluate_folds(sequences, [*folds[:2], wrong_fold, *folds[3:]], CONFIG, seed=1)
        assert "repetition 0, fold 2" in str(error.value)


def test_the_report_describes_how_cross_validation_compares(evidence):
    page = render(ReportData("folds", evidence))
    for text in (
        "Subjects, each held out",
        "values in the 8 folds",
        "Nadeau and Bengio",
        "of the first repetition",
    ):
        assert text in page
