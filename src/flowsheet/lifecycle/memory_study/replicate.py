"""One round of a memory study, opened: its models, its held-out stays and its ward's law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from flowsheet.cohort.extract import read_oracle
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.config import MemoryStudyConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle import memory_study as measures
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.prepare import open_extract
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class Replicate:
    """One round with its trained models, opened."""

    round: FoldSpec
    stages: Mapping[str, Stage]
    """Every model's stage."""
    study: MemoryStudyConfig

    @cached_property
    def model_packages(self) -> dict[str, ModelPackage]:
        """Every model, in the experiment's order."""
        return {
            name: ModelPackage.load(made.folder / "model_package")
            for name, made in self.stages.items()
        }

    @cached_property
    def options(self) -> WardOptions:
        """The ward's law."""
        options = make_source(self.round.config.cohort).options
        assert isinstance(options, WardOptions)
        return options

    @cached_property
    def test(self) -> Sequences:
        """The held-out stays, inputs as the record gave them."""
        return self.round.data.load_parts()[2]

    @cached_property
    def followed(self) -> Sequences:
        """Held-out stays that are long enough for all lags."""
        return measures.long_stays(
            self.test, self.study.lags, self.study.max_stays, self.round.config.seed
        )

    @cached_property
    def law(self) -> Floats:
        """The law's own probability of every held-out row."""
        told = read_oracle(open_extract(self.round.data.extract))
        rows = pl.DataFrame(
            {"stay_id": self.test.stay_id[self.test.row_stay], "step": self.test.step}
        )
        if told is None:
            raise CheckFailed(
                "the extract does not hold the law's probabilities", todo="ingest the ward again"
            )
        step = pl.col("time").rank("ordinal").over("stay_id").cast(pl.Int32).alias("step")
        joined = rows.join(
            told.with_columns(step), on=["stay_id", "step"], how="left", maintain_order="left"
        )
        if joined["probability"].null_count():
            raise CheckFailed("the law's probabilities do not cover every held-out row")
        return joined["probability"].to_numpy()

    @cached_property
    def drugs(self) -> dict[str, int]:
        """The drugs and the columns of their doses."""
        names = [feature.name for feature in self.test.features]
        return {
            drug: names.index(f"{drug}_dose")
            for drug in self.options.drugs
            if f"{drug}_dose" in names
        }

    def dose(self, drug: str) -> float:
        """The dose that is added, in the drug's unit."""
        return self.study.dose * self.options.drugs[drug].reference

    def predictor(self, name: str) -> Callable[[Sequences], Floats]:
        """The model's probabilities of raw sequences."""
        model_package = self.model_packages[name]

        def predict(sequences: Sequences) -> Floats:
            return model_package.model.predict_proba(
                model_package.scaler.transform(sequences) if model_package.scaler else sequences
            )

        return predict

    def scaled(self, name: str, sequences: Sequences) -> Sequences:
        """The sequences as the model is given them."""
        scaler = self.model_packages[name].scaler
        return scaler.transform(sequences) if scaler else sequences
