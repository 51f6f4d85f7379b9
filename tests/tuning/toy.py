"""A model whose score is a known function of its parameters, and a script that tunes it.

``python toy.py FOLDER RESULT`` writes the result of the study to RESULT as JSON. Environment
variables: ``TOY_DELAY`` is the duration of an epoch in seconds, ``TOY_LOG`` a file that gets a line
for each start and end of a fit, ``TOY_URL`` a shared database, ``TOY_TRIALS`` the number of trials.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Self

import numpy as np

from flowsheet.config import Choice, FloatRange, FrozenModel, IntRange, ModelConfig, TuningConfig
from flowsheet.errors import CheckFailed
from flowsheet.models.base import MODELS, Capabilities, Context, Model, ModelFamily
from flowsheet.state.json_files import write_json
from flowsheet.windows.sequences import Feature, Sequences

EPOCHS = 5


class ToyParams(FrozenModel):
    x: float = 0.2
    n: int = 3
    kind: str = "a"
    fail_above: float = 9.0
    unfit: bool = False
    nan: bool = False


class Toy(Model):
    capabilities = Capabilities(ModelFamily.non_temporal, "nothing")
    Params = ToyParams
    space = {  # noqa: RUF012
        "x": FloatRange(low=0, high=1),
        "n": IntRange(low=1, high=9),
        "kind": Choice(of=("a", "b")),
    }

    def quality(self) -> float:
        p = self.params
        return 1 - (p.x - 0.7) ** 2 - (p.n - 5) ** 2 / 100 - (0.05 if p.kind == "a" else 0)

    def fit(self, train: Sequences, valid: Sequences, context: Context) -> None:
        if self.params.unfit:
            raise CheckFailed("the toy cannot be fitted to this task")
        if self.params.x > self.params.fail_above:
            raise ArithmeticError("did not converge")
        self.log("start", context)
        assert context.checkpoints is not None
        checkpoint = context.checkpoints / "epoch.json"
        finished_epochs = (
            json.loads(checkpoint.read_text(encoding="utf-8")) if checkpoint.exists() else 0
        )
        for epoch in range(finished_epochs, EPOCHS):
            time.sleep(float(os.environ.get("TOY_DELAY", "0")))
            context.report_score(epoch, self.quality() - 0.3 / (epoch + 1))
            write_json(checkpoint, epoch + 1)
        self.log("end", context)

    def log(self, event: str, context: Context) -> None:
        if path := os.environ.get("TOY_LOG"):
            with Path(path).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps([event, self.params.model_dump(), context.seed]) + "\n")

    def predict_proba(self, sequences: Sequences) -> np.ndarray:
        return np.full(sequences.rows, np.nan if self.params.nan else self.quality())

    def save(self, folder: Path) -> None:
        write_json(folder / "params.json", self.params.model_dump())

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(ToyParams(**json.loads((folder / "params.json").read_text(encoding="utf-8"))))


MODELS.add("toy", Toy)


def sequences(stays: int = 3) -> Sequences:
    rows = stays * 2
    return Sequences(
        x=np.zeros((rows, 1), np.float32),
        y=np.tile([0, 1], stays).astype(np.int8),
        scored=np.ones(rows, bool),
        in_state=np.zeros(rows, bool),
        history=np.zeros((rows, 1), np.float32),
        step=np.tile([1, 2], stays).astype(np.int32),
        offsets=np.arange(0, rows + 1, 2),
        stay_id=np.arange(stays),
        subject_id=np.arange(stays),
        features=(Feature("hr", "value", "hr"),),
    )


def mean_probability(y: np.ndarray, p: np.ndarray) -> float:
    return float(p.mean())


TUNING = TuningConfig(name="test", trials=12, startup_trials=3)


def main(folder: Path, result: Path) -> None:
    from flowsheet.tuning import storage
    from flowsheet.tuning.study import tune

    storage.HEARTBEAT_SECONDS, storage.GRACE_SECONDS = 1, 6
    tuned = tune(
        "toy",
        ModelConfig(kind="toy", trials=int(os.environ.get("TOY_TRIALS", TUNING.trials))),
        TUNING,
        sequences(),
        sequences(),
        seed=5,
        score=mean_probability,
        folder=folder,
        storage=os.environ.get("TOY_URL"),
    )
    values = {
        "trials": [trial.result() for trial in tuned.trials],
        "fingerprint": tuned.fingerprint,
        "model": json.loads((tuned.folder / "params.json").read_text(encoding="utf-8")),
    }
    write_json(result, values)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
