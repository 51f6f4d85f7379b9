from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import (
    PredictedFold,
    Predictions,
    said,
    sequences,
    table,
)
from flowsheet.testing.models import toy_sequences

QUICK = EvaluationConfig(name="quick", resamples=20)
TASK = TaskConfig(name="next_day")


@pytest.fixture
def held():
    return toy_sequences(60, 4, raw=False)


def note(repeat=0, fold=0, thresholds=None):
    return PredictedFold(
        name="",
        repeat=repeat,
        fold=fold,
        learned_from=40,
        thresholds=thresholds or {"a": 0.5, "b": 0.4},
    )


def guesses(held, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "a": rng.random(held.rows),
        "b": np.clip(held.y * 0.3 + rng.random(held.rows) * 0.7, 0, 1),
    }


def of(held, repeat=0, fold=0, seed=1):
    return table(held, guesses(held, seed), repeat, fold)


def groups(held):
    return pl.DataFrame({"stay_id": held.stay_id, "sex": np.where(held.stay_id % 2, "F", "M")})


def test_evidence_from_the_table_is_the_evidence_from_the_sequences(held, tmp_path):
    Predictions(of(held), groups(held), (note(),)).save(tmp_path)
    again = evaluate_predictions(Predictions.load(tmp_path), TASK, QUICK, 1)
    direct = evaluate(
        held,
        guesses(held),
        QUICK,
        1,
        task=TASK,
        thresholds=note().thresholds,
        subgroups=groups(held),
    )
    for frame in ("leaderboard", "pairs", "curves"):
        assert_frame_equal(getattr(again, frame), getattr(direct, frame))


def test_the_fingerprint_knows_every_answer_and_no_model(held):
    mine = Predictions(of(held), groups(held), (note(),))
    assert (
        mine.targets_fingerprint()
        == Predictions(of(held, seed=2), groups(held), (note(),)).targets_fingerprint()
    )
    y = held.y.copy()
    y[7] = 1 - y[7]
    assert (
        mine.targets_fingerprint()
        != Predictions(of(replace(held, y=y)), groups(held), (note(),)).targets_fingerprint()
    )
    assert (
        mine.probabilities_fingerprint()
        != Predictions(of(held, seed=2), groups(held), (note(),)).probabilities_fingerprint()
    )


def test_renamed_and_beside_keep_probabilities_and_thresholds(held):
    mine = Predictions(of(held), groups(held), (note(),))
    both = mine.select_models({"a": "a (one)"}).join_models(
        mine.select_models({"a": "a (two)", "b": "b"})
    )
    assert both.models == ["a (one)", "a (two)", "b"]
    assert both.folds[0].thresholds == {"a (one)": 0.5, "a (two)": 0.5, "b": 0.4}
    assert np.array_equal(said(both.rows, "a (one)"), said(mine.rows, "a"))


def test_sequences_come_back_from_their_lines(held):
    again = sequences(of(held).sample(fraction=1, shuffle=True, seed=3))
    order = np.argsort(held.stay_id)
    assert np.array_equal(again.stay_id, held.stay_id[order])
    assert np.array_equal(again.y, held.take(order).y)
    assert np.array_equal(again.offsets, held.take(order).offsets)


def test_folds_are_judged_each_with_its_own_thresholds(held):
    order = np.argsort(held.stay_id)
    held = held.take(order)
    parts = np.array_split(np.unique(held.subject_id), 3)
    tables, notes = [], []
    for repeat in (0, 1):
        for fold, subjects in enumerate(parts):
            tables.append(of(held.select_subjects(subjects), repeat, fold, seed=10 * repeat + fold))
            notes.append(note(repeat, fold))
    found = evaluate_predictions(
        Predictions(pl.concat(tables), groups(held), tuple(notes)), TASK, QUICK, 1
    )
    assert isinstance(found, Evidence)
    assert set(found.models) == {"a", "b"}
    assert found.folds.height > 0
