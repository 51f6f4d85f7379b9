"""Trials are compared by groups of subjects that they are not fitted on."""

import pytest
from pydantic import ValidationError

from flowsheet.config import Choice, ModelConfig, TuningConfig
from flowsheet.tuning.left_out import LeftOutGroup, LeftOutParts
from flowsheet.tuning.study import tune

TUNING = TuningConfig(name="shift", trials=2, pruner="none", leave_out="unit")
SPACE = {"kind": Choice(of=("b", "a"))}


def search(toy, tmp_path, lines, space):
    """At home ``b`` is better by 0.05, in either group ``a`` by far."""

    def load(weight):
        def score(y, p):
            return -weight * float(p.mean())

        return LeftOutParts(toy.sequences(4), toy.sequences(3), toy.sequences(2), score)

    groups = [LeftOutGroup(f"unit {weight}", lambda w=weight: load(w)) for weight in (1, 3)]
    return tune(
        "toy",
        ModelConfig(kind="toy", space=space),
        TUNING,
        toy.sequences(),
        toy.sequences(),
        seed=5,
        score=toy.mean_probability,
        folder=tmp_path,
        left_out=groups,
        progress=lambda line: lines.append(str(line)),
    )


def test_the_mean_over_the_groups_chooses(toy, tmp_path):
    lines = []
    result = search(toy, tmp_path, lines, SPACE)
    assert result.params["kind"] == "a"
    qualities = {"a": 1 - 0.25 - 0.04 - 0.05, "b": 1 - 0.25 - 0.04}
    by_kind = {trial.params["kind"]: trial.value for trial in result.trials}
    assert by_kind == pytest.approx({kind: -2 * q for kind, q in qualities.items()}, abs=1e-6)
    assert sum("without unit 3" in line for line in lines) == 2


def test_leaving_out_and_pruning_exclude_each_other():
    with pytest.raises(ValidationError, match="pruner: none"):
        TuningConfig(name="x", leave_out="unit")
