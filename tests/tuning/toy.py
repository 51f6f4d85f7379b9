"""A model whose score is a known function of its parameters, and a script that tunes it and may be
killed.

``python toy.py WORK RESULT`` writes the study's outcome to RESULT as JSON. ``TOY_DELAY`` slows each
epoch down; ``TOY_LOG`` gathers a line for each fit that starts and each that ends. ``TOY_URL``
names a database that several share, ``TOY_TRIALS`` the number of trials.
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
            raise CheckFailed("this task is not for toys")
        if self.params.x > self.params.fail_above:
            raise ArithmeticError("did not converge")
        self.log("start", context)
        assert context.checkpoints is not None
        saved = context.checkpoints / "epoch.json"
        for epoch in range(json.loads(saved.read_text()) if saved.exists() else 0, EPOCHS):
            time.sleep(float(os.environ.get("TOY_DELAY", "0")))
            context.report_score(epoch, self.quality() - 0.3 / (epoch + 1))
            write_json(saved, epoch + 1)
        self.log("end", context)

    def log(self, what: str, context: Context) -> None:
        if path := os.environ.get("TOY_LOG"):
            with Path(path).open("a") as stream:
                stream.write(json.dumps([what, self.params.model_dump(), context.seed]) + "\n")

    def predict_proba(self, sequences: Sequences) -> np.ndarray:
        return np.full(sequences.rows, np.nan if self.params.nan else self.quality())

    def save(self, folder: Path) -> None:
        write_json(folder / "params.json", self.params.model_dump())

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(ToyParams(**json.loads((folder / "params.json").read_text())))


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


def mean(y: np.ndarray, p: np.ndarray) -> float:
    return float(p.mean())


TUNING = TuningConfig(name="test", trials=12, startup_trials=3)


def main(work: Path, result: Path) -> None:
    from flowsheet.tuning import journal
    from flowsheet.tuning.study import tune

    journal.HEARTBEAT_SECONDS, journal.GRACE_SECONDS = 1, 6
    tuned = tune(
        "toy",
        ModelConfig(kind="toy", trials=int(os.environ.get("TOY_TRIALS", TUNING.trials))),
        TUNING,
        sequences(),
        sequences(),
        seed=5,
        score=mean,
        work=work,
        storage=os.environ.get("TOY_URL"),
    )
    saved = json.loads((tuned.folder / "params.json").read_text())
    outcome = {
        "trials": [t.result() for t in tuned.trials],
        "fingerprint": tuned.fingerprint,
        "model": saved,
    }
    write_json(result, outcome)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
