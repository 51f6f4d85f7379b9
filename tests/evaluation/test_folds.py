"""Cross-validation: every subject held out once a repetition, and pairs tested by folds that know they overlap."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy import stats
from sklearn.metrics import roc_auc_score

from flowsheet.config import Protocol, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.bootstrap import holm_adjust
from flowsheet.evaluation.evidence import Evidence, evaluate, evaluate_folds
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.leaderboard import describe_intervals, leaderboard_markdown
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.resampled_t import corrected_t_test
from flowsheet.evaluation.summaries import headline

from .conftest import CONFIG, make_predictions

K, DAILY = 4, TaskConfig(name="daily")


def make_folds(sequences, signal, repeats=2, thresholds=True):
    """Each repetition deals the subjects anew, and its models see the signal through other noise."""
    subjects = np.unique(sequences.subject_id)
    folds = []
    for repeat in range(repeats):
        dealt = np.random.default_rng(repeat).permutation(len(subjects)) % K
        said = make_predictions(signal, seed=repeat + 5)
        for k in range(K):
            held = subjects[dealt == k]
            rows = np.isin(sequences.subject_id, held)[sequences.row_stay]
            predictions = {model: p[rows] for model, p in said.items()}
            rings = dict.fromkeys(said, 0.2 + 0.1 * k) if thresholds else {}
            folds.append(
                FoldPredictions(repeat, k, held, len(subjects) - len(held), predictions, rings)
            )
    return folds


@pytest.fixture(scope="module")
def folds(ward):
    return make_folds(*ward)


@pytest.fixture(scope="module")
def evidence(ward, folds):
    return evaluate_folds(ward[0], folds, CONFIG, seed=1, task=DAILY)


def test_one_repetition_is_judged_as_its_pooled_predictions(ward):
    sequences, signal = ward
    found = evaluate_folds(
        sequences, make_folds(*ward, repeats=1, thresholds=False), CONFIG, seed=1
    )
    held = evaluate(sequences, make_predictions(signal, seed=5), CONFIG, seed=1)
    assert_frame_equal(found.leaderboard, held.leaderboard)
    assert_frame_equal(found.curves, held.curves)
    assert held.folds.is_empty()
    assert held.about["cross_validation"] is None


def test_the_leaderboard_is_the_mean_of_the_repetitions(evidence):
    pooled = evidence.folds.filter(pl.col("fold").is_null())
    mean = pooled.group_by("subset", "model", "metric").agg(pl.col("value").mean())
    both = evidence.leaderboard.join(mean, on=["subset", "model", "metric"], validate="1:1")
    assert len(both) == len(evidence.leaderboard)
    assert np.allclose(both["value"], both["value_right"], equal_nan=True, rtol=1e-12)


def test_alarms_are_decided_fold_by_fold(ward, folds, evidence):
    sequences, p, rung = ward[0], np.zeros(ward[0].rows), np.zeros(ward[0].rows, bool)
    for fold in folds[:K]:
        rows = np.isin(sequences.subject_id, fold.subjects)[sequences.row_stay]
        p[rows] = fold.predictions["sharp"]
        rung[rows] = fold.predictions["sharp"] >= fold.thresholds["sharp"]
    right = (rung == (sequences.y == 1))[sequences.scored].mean()
    first = evidence.folds.filter(repeat=0, subset="all", model="sharp").filter(
        pl.col("fold").is_null()
    )
    assert first.filter(metric="accuracy")["value"].item() == pytest.approx(right)
    auroc = roc_auc_score(sequences.y[sequences.scored], p[sequences.scored])
    assert first.filter(metric="auroc")["value"].item() == pytest.approx(auroc)


def test_a_fold_has_its_own_subjects_figures(ward, folds, evidence):
    sequences, fold = ward[0], folds[1]
    held = sequences.select_subjects(fold.subjects)
    row = evidence.folds.filter(repeat=0, fold=1, subset="all", model="blunt", metric="auroc").row(
        0, named=True
    )
    assert row["value"] == pytest.approx(
        roc_auc_score(held.y[held.scored], fold.predictions["blunt"][held.scored])
    )
    assert (row["rows"], row["subjects"]) == (held.scored.sum(), np.unique(held.subject_id).size)


def test_pairs_can_be_recomputed_from_the_folds(evidence):
    told = evidence.about["cross_validation"]
    assert (told["repeats"], told["folds"]) == (2, K)
    parts = evidence.folds.filter(pl.col("fold").is_not_null()).sort("repeat", "fold")
    for (subset, metric), group in evidence.pairs.group_by("subset", "metric", maintain_order=True):
        inside = parts.filter(subset=subset, metric=metric)
        p = []
        for row in group.iter_rows(named=True):
            a, b = (
                inside.filter(model=row[side])["value"].to_numpy()
                for side in ("model_a", "model_b")
            )
            found = corrected_t_test(a - b, told["test_to_training"], 0.95)
            expected = (row["difference"], row["low"], row["high"], row["p"])
            assert dataclasses.astuple(found) == pytest.approx(expected, nan_ok=True)
            p.append(found.p)
        assert group["p_holm"].to_list() == pytest.approx(holm_adjust(p), nan_ok=True)
    first = METRICS.get("auroc")()
    assert headline(evidence.leaderboard, evidence.pairs, first) == evidence.headline


def test_pairs_of_sites_are_compared_by_resamples(ward):
    sequences, signal = ward
    by_site = CONFIG.model_copy(update={"protocol": Protocol.site})
    found = evaluate_folds(
        sequences, make_folds(*ward, repeats=1, thresholds=False), by_site, seed=1
    )
    held = evaluate(sequences, make_predictions(signal, seed=5), CONFIG, seed=1)
    assert_frame_equal(found.pairs, held.pairs)
    page = render(ReportData("sites", found))
    assert "had not seen the site" in page
    assert "Nadeau" not in page


def test_sentences_say_what_a_difference_is_the_mean_of(evidence):
    sentence = evidence.pairs.filter(metric="auroc", subset="all", model_b="blunt")["summary"][0]
    assert f"mean difference over {2 * K} folds +0." in sentence
    assert "per stay" in evidence.pairs.filter(metric="auroc", subset="stays")["summary"][0]
    assert "Cross-validation with 4 folds" in describe_intervals(evidence)
    assert "mean of 2 repetitions" in leaderboard_markdown(evidence)


def test_the_order_of_folds_does_not_matter(ward, folds, evidence):
    again = evaluate_folds(ward[0], folds[::-1], CONFIG, seed=1, task=DAILY)
    for name in ("leaderboard", "pairs", "curves", "folds", "lead_times"):
        assert_frame_equal(getattr(again, name), getattr(evidence, name), check_exact=True)


def test_it_survives_being_saved(evidence, tmp_path):
    evidence.save(tmp_path)
    loaded = Evidence.load(tmp_path)
    assert_frame_equal(loaded.folds, evidence.folds)
    assert loaded.about == evidence.about


def test_lead_times_are_told_for_each_repetition(evidence):
    told = evidence.lead_times
    assert set(told["repeat"]) == {0, 1}
    onsets = told.group_by("repeat", "model").agg(pl.col("episodes").sum())["episodes"].unique()
    board = evidence.leaderboard.filter(subset="stays", model="sharp")
    assert onsets.to_list() == [board.filter(metric="lead_time")["events"].item()]
    detected = (
        told.filter(model="sharp")
        .group_by("repeat")
        .agg(
            share=pl.col("episodes").filter(pl.col("hours").is_not_null()).sum()
            / pl.col("episodes").sum(),
            median=pl.col("hours").repeat_by("episodes").explode().median(),
        )
    )
    assert board.filter(metric="episodes_detected")["value"].item() == pytest.approx(
        detected["share"].mean()
    )
    assert board.filter(metric="lead_time")["value"].item() == pytest.approx(
        detected["median"].mean()
    )


def test_a_subject_held_out_twice_or_never_is_refused(ward, folds):
    for wrong in (folds[:-1], [*folds, folds[0]], []):
        with pytest.raises(CheckFailed, match=r"no fold|holds out"):
            evaluate_folds(ward[0], wrong, CONFIG, seed=1)


def test_a_fold_without_a_model_or_a_row_is_refused(ward, folds):
    less = {model: p for model, p in folds[2].predictions.items() if model != "twin"}
    short = {model: p[:-1] for model, p in folds[2].predictions.items()}
    for predictions, words in ((less, "where other folds have"), (short, "probabilities for")):
        wrong = [*folds[:2], dataclasses.replace(folds[2], predictions=predictions), *folds[3:]]
        with pytest.raises(CheckFailed, match=words) as caught:
            evaluate_folds(ward[0], wrong, CONFIG, seed=1)
        assert "repetition 0, fold 2" in str(caught.value)


def test_the_report_says_how_cross_validation_compares(evidence):
    text = render(ReportData("folds", evidence))
    for words in (
        "Subjects, each held out",
        "figures on the 8 folds",
        "Nadeau and Bengio",
        "of the first repetition",
    ):
        assert words in text


@given(d=st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_without_overlap_it_is_the_ordinary_t_test(d):
    d = np.round(np.array(d), 3)
    found = corrected_t_test(d, 0.0, 0.95)
    if d.std() > 0:
        ordinary = stats.ttest_1samp(d, 0)
        assert found.p == pytest.approx(ordinary.pvalue, abs=1e-9)
        assert (found.low, found.high) == pytest.approx(
            tuple(ordinary.confidence_interval(0.95)), abs=1e-9
        )
        assert corrected_t_test(d, 0.25, 0.95).p >= found.p


def test_it_equals_the_formula():
    d = np.array([0.02, 0.05, -0.01, 0.03, 0.04])
    t = d.mean() / math.sqrt((1 / 5 + 0.25) * d.var(ddof=1))
    assert corrected_t_test(d, 0.25, 0.95).p == pytest.approx(2 * stats.t.sf(t, 4))


def test_a_fold_that_cannot_tell_leaves_no_test():
    found = corrected_t_test(np.array([0.1, np.nan, 0.2]), 0.25, 0.95)
    assert found.value == pytest.approx(0.15)
    assert math.isnan(found.p)
    assert math.isnan(corrected_t_test(np.array([0.1]), 0.25, 0.95).p)


@pytest.mark.slow
def test_the_corrected_test_keeps_its_level_where_the_ordinary_one_does_not():
    # two learners that are alike: each estimates a mean from its training part, seen through noise of its own
    called = {0.0: 0, 0.25: 0}
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        truth, views = rng.normal(size=100), rng.normal(size=(2, 100))
        fold = rng.permutation(100) % 5
        losses = [
            [((truth[fold == k] - (truth + view)[fold != k].mean()) ** 2).mean() for view in views]
            for k in range(5)
        ]
        apart = np.subtract(*np.array(losses).T)
        for ratio in called:
            called[ratio] += corrected_t_test(apart, ratio, 0.95).p < 0.05
    assert called[0.25] <= 65
    assert called[0.0] > called[0.25]
