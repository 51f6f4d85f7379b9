"""A small project of a user's own, written to a folder."""

from __future__ import annotations

from pathlib import Path

MODEL = '''"""Predicts the same risk for everybody."""

from pathlib import Path
from typing import Self

import numpy as np

from flowsheet.config import FrozenModel
from flowsheet.models.base import MODELS, Capabilities, Context, Model, ModelFamily
from flowsheet.state.json_files import read_json, write_json


class Params(FrozenModel):
    """Parameters."""

    scale: float = 1.0
    """Factor of the risk."""


@MODELS.register("constant")
class Constant(Model):
    """The share of events among the training rows."""

    Params = Params
    capabilities = Capabilities(ModelFamily.non_temporal, "nothing", scaled=False)

    def fit(self, train, valid, context):
        self.risk = float(np.mean(train.y[train.scored])) * self.params.scale

    def predict_proba(self, sequences):
        return np.full(sequences.rows, self.risk)

    def save(self, folder: Path) -> None:
        write_json(folder / "model.json", {"risk": self.risk, "scale": self.params.scale})

    @classmethod
    def load(cls, folder: Path) -> Self:
        values = read_json(folder / "model.json")
        model = cls(Params(scale=values["scale"]))
        model.risk = values["risk"]
        return model
'''

VARIABLES = """name,label,unit,kind,low,high,source
procalcitonin,procalcitonin,ng/mL,lab,0,1000,upper limit of the assay
"""

DRUGS = """name,label,group,unit
methylene_blue,methylene blue,vasopressor,mg
"""

EXPERIMENT = """description: A first look.
cohort: simulated_small
task: next_day
features: vitals_only
models: [constant, ar1]
tuning: none
evaluation: quick
compute: single
override:
  evaluation: {resamples: 20}
"""


def write_project(root: Path, package: str = "my_study") -> Path:
    """A project with a model, a variable, a drug and an experiment; returns its root."""
    files = {
        "flowsheet.toml": f'package = "{package}"\n',
        f"src/{package}/__init__.py": "",
        f"src/{package}/models/__init__.py": "",
        f"src/{package}/models/constant.py": MODEL,
        "catalogue/variables.csv": VARIABLES,
        "catalogue/drugs.csv": DRUGS,
        "conf/experiment/mine.yaml": EXPERIMENT,
    }
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root
