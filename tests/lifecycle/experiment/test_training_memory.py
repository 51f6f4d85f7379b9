"""A training holds its inputs in memory where they fit, and needs a bounded amount where not."""

import pytest

from flowsheet.config import (
    CohortConfig,
    ComputeConfig,
    EvaluationConfig,
    ModelConfig,
    TuningConfig,
)
from flowsheet.lifecycle.experiment import prepare, train, training_memory
from flowsheet.lifecycle.experiment.train import FoldData, load_probabilities, train_model
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.shards import ShardedInputs
from tests.models.test_sharded_inputs import put_into_shards
from tests.tiny import experiment

GB = 10**9


@pytest.fixture
def parts(tmp_path):
    toys = (toy_sequences(20, 1, raw=True), toy_sequences(10, 2, raw=True))
    return [put_into_shards(toy, tmp_path / str(i)) for i, toy in enumerate(toys)]


@pytest.mark.parametrize(
    ("inputs", "memory", "from_shards"),
    [
        ("auto", 24 * GB, False),
        ("auto", 30_000, True),
        ("memory", 30_000, False),
        ("shards", 24 * GB, True),
    ],
)
def test_inputs_are_in_memory_where_they_fit_or_as_configured(
    parts, inputs, memory, from_shards, monkeypatch
):
    monkeypatch.setattr(training_memory, "usable_memory", lambda: memory)
    lines = []
    compute = ComputeConfig(name="local", inputs=inputs)
    placed = training_memory.place_inputs(parts, compute, lines.append)
    assert [isinstance(part.x, ShardedInputs) for part in placed] == [from_shards] * 2
    assert len(lines) == from_shards
    for part, expected in zip(placed, parts, strict=True):
        assert part.x[:].tobytes() == expected.x[:].tobytes()


def test_the_estimate_does_not_grow_with_inputs_that_stay_in_shards(monkeypatch):
    monkeypatch.setattr(training_memory, "usable_memory", lambda: 24 * GB)
    estimate = training_memory.training_memory
    kinds = ["logistic_regression", "lstm"]
    assert estimate(10**6, 10, 10) < estimate(2 * 10**6, 10, 10)
    beside_inputs = 100 * (10**8 - 10**7)  # target, marks, step, history and predictions
    small, large = (estimate(rows, 700, 700, None, kinds) for rows in (10**7, 10**8))
    assert large - small == beside_inputs
    assert small < 3.1 * GB
    trees = estimate(10**7, 700, 700, None, ["gradient_boosting"])
    assert trees > 10**7 * 700  # a byte a value, in binned form
    assert estimate(10**7, 700, 200, None, ["gradient_boosting"]) < trees / 2
    in_memory = ComputeConfig(name="local", inputs="memory")
    assert estimate(10**7, 700, 200, in_memory) > 4 * 10**7 * 700


def test_an_experiment_has_the_same_predictions_from_shards(tmp_path, monkeypatch):
    """Of trees, which take the inputs as they are, and of a regression, which takes them scaled."""
    models = {
        "trees": ModelConfig(kind="gradient_boosting", params={"rounds": 10}),
        "regression": ModelConfig(kind="logistic_regression"),
    }
    predicted, places = {}, []
    original = train.tune

    def tune(kind, model, tuning, training, valid, **others):
        places.append([isinstance(part.x, ShardedInputs) for part in (training, valid)])
        return original(kind, model, tuning, training, valid, **others)

    monkeypatch.setattr(train, "tune", tune)
    for inputs in ("memory", "shards"):
        monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / inputs))
        config = experiment(
            "shards",
            cohort=CohortConfig(name="ward", source="simulated", options={"stays": 60}),
            models=models,
            tuning=TuningConfig(name="none", trials=1),
            evaluation=EvaluationConfig(name="holdout", test=0.3),
            compute=ComputeConfig(name="local", inputs=inputs),
        )
        extract = prepare.ingest_cohort(config.cohort, print)
        windows = prepare.build_windows(extract, config.task, config.features)
        split = prepare.split_subjects(extract, windows, config.evaluation, config.seed)
        data = FoldData(extract=extract, windows=windows, split=split)
        for name in models:
            model = train_model(config, name, data, lambda trial: None, print)
            parts = [load_probabilities(model, part).tobytes() for part in ("test", "valid")]
            predicted[inputs, name] = parts
    assert places == [[False, False]] * 2 + [[True, True]] * 2
    for name in models:
        assert predicted["memory", name] == predicted["shards", name]
