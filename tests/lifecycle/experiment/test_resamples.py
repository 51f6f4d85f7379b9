"""Resamples in pieces: the same evidence to the last bit, and pieces only where they pay."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import polars as pl
import pytest

from flowsheet.config import CLOCK, ComputeConfig, EvaluationConfig, TaskConfig
from flowsheet.evaluation import bootstrap
from flowsheet.evaluation.alert_policy import make_policies
from flowsheet.evaluation.draws import EvaluationDraws, join_draws
from flowsheet.lifecycle.experiment import resamples
from flowsheet.lifecycle.experiment.evaluate import evaluate_predictions
from flowsheet.lifecycle.experiment.predictions import PredictedFold, Predictions, make_rows
from flowsheet.lifecycle.experiment.resamples import plan_pieces, resample_piece
from flowsheet.lifecycle.experiment.stage import run_stage
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.protocol import FoldId
from tests.tiny import experiment

MODELS = ("a", "b", CLOCK)
POLICIES = make_policies(dict.fromkeys(MODELS, 0.4))
TWO = ComputeConfig(name="two", workers=2)
CONFIG = experiment(
    "pieces",
    task=TaskConfig(name="next_day"),
    evaluation=EvaluationConfig(
        name="quick",
        resamples=20,
        minimum_events=2,
        operating_points={"net_benefit_above_clock": (0.2,)},
    ),
)


@pytest.fixture(autouse=True)
def small_pieces(flowsheet_home, monkeypatch: pytest.MonkeyPatch):
    """Batches of three resamples, all of which are worth a process."""
    monkeypatch.setattr(bootstrap, "MAX_BATCH_RESAMPLES", 3)
    monkeypatch.setattr(resamples, "MAX_BATCH_RESAMPLES", 3)
    monkeypatch.setattr(resamples, "MIN_CELLS", 0)


def make_predictions(n_folds: int) -> Predictions:
    """Models of a holdout, or of a cross-validation with two repetitions of some folds."""
    sequences = toy_sequences(60, 4, raw=False)
    ids = [FoldId()]
    if n_folds > 1:
        ids = [FoldId(repeat=r, fold=f) for r in range(2) for f in range(n_folds)]
    tables = []
    for fold_id in ids:
        subjects = np.unique(sequences.subject_id)
        held_out = subjects[subjects % n_folds == fold_id.fold % n_folds]
        rows = sequences.select_subjects(held_out)
        rng = np.random.default_rng([fold_id.repeat, fold_id.fold])
        risks = {model: rng.random(rows.rows) for model in MODELS}
        tables.append(make_rows(rows, risks, fold_id))
    folds = [PredictedFold(id=i, n_training_subjects=40, policies=POLICIES) for i in ids]
    sex = np.where(sequences.stay_id % 2, "F", "M")
    subgroups = pl.DataFrame({"stay_id": sequences.stay_id, "sex": sex})
    return Predictions(pl.concat(tables), subgroups, tuple(folds))


@pytest.mark.parametrize("n_folds", [1, 2])
def test_pieces_give_the_evidence_of_one_process_to_the_last_bit(n_folds):
    predictions = make_predictions(n_folds)
    stage = run_stage("predictions", "p" * 64, predictions.save)
    pieces = plan_pieces(1, MODELS, CONFIG.evaluation.resamples, TWO)
    assert len(pieces) == 2 * len(MODELS)
    stages = [resample_piece(CONFIG, stage, piece) for piece in pieces]
    draws = join_draws([EvaluationDraws.load(piece.folder) for piece in stages])
    choices = (CONFIG.task, CONFIG.evaluation, CONFIG.seed)
    divided = evaluate_predictions(predictions, *choices, draws=draws)
    whole = evaluate_predictions(predictions, *choices)
    for frame in fields(whole):
        name = frame.name
        a, b = getattr(divided, name), getattr(whole, name)
        assert a == b if name == "about" else a.equals(b, null_equal=True), name
    assert whole.leaderboard["low"].is_not_nan().any()
    assert whole.curves.filter(curve="calibration")["low"].is_not_nan().any()


def test_a_piece_that_exists_is_not_computed_again(monkeypatch):
    predictions = make_predictions(1)
    stage = run_stage("predictions", "p" * 64, predictions.save)
    piece = plan_pieces(1, MODELS, CONFIG.evaluation.resamples, TWO)[0]
    resample_piece(CONFIG, stage, piece)
    assert resample_piece(CONFIG, stage, piece).reused


def test_more_workers_than_models_share_the_resamples_of_each():
    many = ComputeConfig(name="many", workers=6, runner="dask")
    parts = [piece.part for piece in plan_pieces(1, ("a", "b"), 20, many)]
    assert len(parts) == 12
    assert {part.of for part in parts} == {6}
    assert max(piece.part.of for piece in plan_pieces(1, ("a",), 20, many)) == 7  # batches


@pytest.mark.parametrize(
    ("rows", "compute"),
    [
        (10**6, ComputeConfig(name="one")),
        (10**6, ComputeConfig(name="pool", workers=2, pool="cpu")),
        (10**2, TWO),
        (10**9, TWO),  # two processes do not fit
    ],
)
def test_what_does_not_pay_is_resampled_by_one_process(rows, compute, monkeypatch):
    monkeypatch.setattr(resamples, "MIN_CELLS", 100_000_000)
    assert plan_pieces(rows, MODELS, 1000, compute) == []
