"""Which rows rank the models, and what the headline says about patients who are not yet septic."""

import dataclasses

import numpy as np
import pytest

from flowsheet.config import EvaluationConfig
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.evaluation.leaderboard import (
    list_leaderboard_tables,
    order_subsets,
    render_leaderboard_markdown,
)
from flowsheet.windows.sequences import Feature, Sequences

CONFIG = EvaluationConfig(name="small", resamples=50)
N_STAYS, STEPS = 120, 6


@pytest.fixture(scope="module")
def persistent():
    """Stays in which sepsis mostly persists; its onset follows a risk that only ``gbm`` sees."""
    rng = np.random.default_rng(3)
    n = N_STAYS * STEPS
    risk = rng.normal(size=n)
    in_state = np.repeat(rng.random(N_STAYS) < 0.6, STEPS)
    onset = rng.random(n) < 1 / (1 + np.exp(3 - 2 * risk))
    y = np.where(in_state, rng.random(n) < 0.95, onset)
    sequences = Sequences(
        x=np.zeros((n, 1), np.float32),
        y=y.astype(np.int8),
        scored=np.ones(n, bool),
        in_state=in_state,
        history=np.zeros((n, 0), np.float32),
        step=np.tile(np.arange(1, STEPS + 1), N_STAYS).astype(np.int32),
        offsets=np.arange(0, n + 1, STEPS),
        stay_id=np.arange(N_STAYS),
        subject_id=np.arange(N_STAYS),
        features=(Feature("f", "value", "f"),),
    )
    persistence = np.where(in_state, 0.9, 0.1) + rng.uniform(-0.05, 0.05, n)
    learned = 1 / (1 + np.exp(-(0.5 * in_state + risk)))
    return sequences, {"ar1": persistence, "gbm": learned}


@pytest.fixture(scope="module")
def evidence(persistent):
    return evaluate(*persistent, CONFIG, seed=1)


def value_of(evidence, model, subset):
    return evidence.leaderboard.filter(model=model, subset=subset, metric="auroc")["value"].item()


def test_new_onsets_rank_the_models_although_another_one_wins_over_all_rows(evidence):
    assert value_of(evidence, "ar1", "all") > value_of(evidence, "gbm", "all")
    assert value_of(evidence, "ar1", "new_onsets") < 0.6 < value_of(evidence, "gbm", "new_onsets")
    assert evidence.models == ["gbm", "ar1"]
    assert evidence.ranking_subset == "new_onsets"


def test_the_headline_says_that_the_winner_over_all_rows_does_not_win_there(evidence):
    first, second = evidence.headline.split(". ", 1)
    new, all_rows = (value_of(evidence, "ar1", subset) for subset in ("new_onsets", "all"))
    assert first.startswith("gbm ranks first by AUROC among patients not yet septic (0.")
    assert "it is better than ar1" in first
    assert f"ar1 ranks first ({all_rows:.3f}" in second
    assert f"but not among patients not yet septic ({new:.3f}" in second


def test_the_headline_says_that_one_model_wins_both(persistent):
    sequences, predictions = persistent
    oracle = np.where(sequences.in_state, 0.9, predictions["gbm"] * 0.5)
    evidence = evaluate(sequences, {"oracle": oracle, "ar1": predictions["ar1"]}, CONFIG, seed=1)
    assert evidence.models[0] == "oracle"
    assert "already septic included, it ranks first too (0." in evidence.headline


def test_pairs_curves_and_tables_begin_with_the_subset_that_ranks(evidence):
    assert list(order_subsets(evidence)) == ["new_onsets", "all", "stays"]
    tables = list_leaderboard_tables(evidence)
    assert [table.title.split(" (")[0] for table in tables[:1]] == ["New onsets"]
    assert tables[1].title.startswith("All rows: 720 rows")
    assert [row[0] for row in tables[0].rows] == ["gbm", "ar1"]
    markdown = render_leaderboard_markdown(evidence)
    assert markdown.index("**New onsets") < markdown.index("**All rows")


def test_all_rows_rank_where_new_onsets_are_not_estimable(persistent):
    sequences, predictions = persistent
    y = np.where(sequences.in_state, sequences.y, 0).astype(np.int8)
    evidence = evaluate(dataclasses.replace(sequences, y=y), predictions, CONFIG, seed=1)
    assert evidence.ranking_subset == "all"
    assert evidence.models[0] == "ar1"
    assert "This is over all rows, those of patients who are already septic" in evidence.headline
    assert "no model can be ranked: 0 rows with the event" in evidence.headline


def test_without_patients_in_the_state_all_rows_rank(persistent):
    sequences, predictions = persistent
    never = dataclasses.replace(sequences, in_state=np.zeros_like(sequences.in_state))
    evidence = evaluate(never, predictions, CONFIG, seed=1)
    assert evidence.ranking_subset == "all"
    assert "septic" not in evidence.headline


def test_a_metric_of_whole_stays_ranks_by_all_rows(persistent):
    config = CONFIG.model_copy(update={"metric": "normalised_utility"})
    evidence = evaluate(*persistent, config, seed=1)
    assert evidence.ranking_subset == "all"


def test_evidence_of_earlier_releases_is_ranked_by_all_rows(evidence, tmp_path):
    about = {name: value for name, value in evidence.about.items() if name != "ranking_subset"}
    dataclasses.replace(evidence, about=about).save(tmp_path)
    assert Evidence.load(tmp_path).ranking_subset == "all"
