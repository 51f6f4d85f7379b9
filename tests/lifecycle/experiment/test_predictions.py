"""The table of held-out predictions: its fingerprints and the evidence computed from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import (
    PredictedFold,
    Predictions,
    make_rows,
    model_probabilities,
    rows_to_sequences,
)
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.protocol import FoldId

QUICK = EvaluationConfig(name="quick", resamples=20)
TASK = TaskConfig(name="next_day")
POLICIES = make_policies({"a": 0.5, "b": 0.4})


@pytest.fixture
def held_out():
    return toy_sequences(60, 4, raw=False)


def make_fold(fold_id):
    return PredictedFold(id=fold_id, n_training_subjects=40, policies=POLICIES)


def make_probabilities(sequences, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "a": rng.random(sequences.rows),
        "b": np.clip(sequences.y * 0.3 + rng.random(sequences.rows) * 0.7, 0, 1),
    }


def make_subgroups(sequences):
    sex = np.where(sequences.stay_id % 2, "F", "M")
    return pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex})


def make_predictions(sequences, seed=1):
    rows = make_rows(sequences, make_probabilities(sequences, seed), FoldId())
    return Predictions(rows, make_subgroups(sequences), (make_fold(FoldId()),))


def test_evidence_from_the_table_equals_evidence_from_the_sequences(held_out, tmp_path):
    make_predictions(held_out).save(tmp_path)
    from_table = evaluate_predictions(Predictions.load(tmp_path), TASK, QUICK, 1)
    from_sequences = evaluate(
        held_out,
        make_probabilities(held_out),
        QUICK,
        1,
        task=TASK,
        policies=POLICIES,
        subgroups=make_subgroups(held_out),
    )
    for frame in ("leaderboard", "pairs", "curves"):
        assert_frame_equal(getattr(from_table, frame), getattr(from_sequences, frame))


def test_the_fingerprint_of_the_targets_depends_on_labels_and_not_on_probabilities(held_out):
    predictions = make_predictions(held_out)
    other_probabilities = make_predictions(held_out, seed=2)
    assert predictions.targets_fingerprint() == other_probabilities.targets_fingerprint()
    y = held_out.y.copy()
    y[7] = 1 - y[7]
    other_label = make_predictions(replace(held_out, y=y))
    assert predictions.targets_fingerprint() != other_label.targets_fingerprint()


def test_the_fingerprint_of_the_probabilities_depends_on_them(held_out):
    predictions = make_predictions(held_out)
    other_probabilities = make_predictions(held_out, seed=2)
    assert (
        predictions.probabilities_fingerprint() != other_probabilities.probabilities_fingerprint()
    )


def test_selected_and_joined_models_keep_probabilities_and_thresholds(held_out):
    predictions = make_predictions(held_out)
    one = predictions.select_models({"a": "a (one)"})
    two = predictions.select_models({"a": "a (two)", "b": "b"})
    joined = one.join_models(two)
    assert joined.models == ["a (one)", "a (two)", "b"]
    assert joined.folds[0].thresholds == {"a (one)": 0.5, "a (two)": 0.5, "b": 0.4}
    joined_probabilities = model_probabilities(joined.rows)["a (one)"]
    assert np.array_equal(joined_probabilities, model_probabilities(predictions.rows)["a"])


def test_sequences_are_restored_from_rows_in_any_order(held_out):
    rows = make_predictions(held_out).rows
    restored = rows_to_sequences(rows.sample(fraction=1, shuffle=True, seed=3))
    order = np.argsort(held_out.stay_id)
    assert np.array_equal(restored.stay_id, held_out.stay_id[order])
    assert np.array_equal(restored.y, held_out.take(order).y)
    assert np.array_equal(restored.offsets, held_out.take(order).offsets)


def test_folds_are_evaluated_each_with_its_own_thresholds(held_out):
    held_out = held_out.take(np.argsort(held_out.stay_id))
    parts = np.array_split(np.unique(held_out.subject_id), 3)
    tables = []
    folds = []
    for repeat in (0, 1):
        for k, subjects in enumerate(parts):
            fold_id = FoldId(f"{repeat + 1}.{k + 1}", repeat, k)
            part = held_out.select_subjects(subjects)
            tables.append(make_rows(part, make_probabilities(part, seed=10 * repeat + k), fold_id))
            folds.append(make_fold(fold_id))
    predictions = Predictions(pl.concat(tables), make_subgroups(held_out), tuple(folds))
    evidence = evaluate_predictions(predictions, TASK, QUICK, 1)
    assert isinstance(evidence, Evidence)
    assert set(evidence.models) == {"a", "b"}
    assert evidence.folds.height > 0


def test_predictions_of_a_release_without_weights_are_refused(held_out, tmp_path):
    predictions = make_predictions(held_out)
    replace(predictions, rows=predictions.rows.drop("weight")).save(tmp_path)
    with pytest.raises(CheckFailed, match="no column weight") as error:
        Predictions.load(tmp_path)
    assert "run the experiment again" in error.value.todo


def test_the_weights_of_rows_reach_the_evidence(held_out):
    weighted = replace(held_out, weight=held_out.scored * np.where(held_out.y == 1, 3.0, 1.0))
    once, thrice = (
        evaluate_predictions(make_predictions(sequences), TASK, QUICK, 1)
        for sequences in (held_out, weighted)
    )
    unweighted = once.leaderboard.filter(subset="all", model="a", metric="brier")["value"].item()
    value = thrice.leaderboard.filter(subset="all", model="a", metric="brier")["value"].item()
    p = make_probabilities(held_out)["a"][held_out.scored]
    y = held_out.y[held_out.scored]
    expected = np.average((p - y) ** 2, weights=np.where(y == 1, 3.0, 1.0))
    assert value == pytest.approx(expected)
    assert value != pytest.approx(unweighted)
