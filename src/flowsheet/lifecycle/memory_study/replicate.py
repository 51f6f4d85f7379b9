"""One replicate of a memory study: its trained models, held-out stays and ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from flowsheet.cohort.extract import read_oracle
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.config import MemoryStudyConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.prepare import open_extract
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.memory_study.dose_response import Predict, sample_long_stays
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.typing import Floats
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class Replicate:
    """One fold of the experiment with its trained models."""

    fold: FoldSpec
    stages: Mapping[str, Stage]
    """The training stage of every model."""
    study: MemoryStudyConfig

    @cached_property
    def model_packages(self) -> dict[str, ModelPackage]:
        """Every model, in the experiment's order."""
        return {
            name: ModelPackage.load(stage.folder / "model_package")
            for name, stage in self.stages.items()
        }

    @cached_property
    def options(self) -> WardOptions:
        """The parameters of the data-generating process."""
        options = make_source(self.fold.config.cohort).options
        assert isinstance(options, WardOptions)
        return options

    @cached_property
    def test(self) -> Sequences:
        """The held-out stays, with raw inputs."""
        return self.fold.data.load_parts().test.in_memory()

    @cached_property
    def long_stays(self) -> Sequences:
        """A sample of the held-out stays that are long enough for all lags."""
        seed = self.fold.config.seed
        return sample_long_stays(self.test, self.study.lags, self.study.max_stays, seed)

    @cached_property
    def oracle(self) -> Floats:
        """The true probability of every held-out row, shape (N,).

        Raises:
            CheckFailed: the extract does not have it for every row.
        """
        oracle = read_oracle(open_extract(self.fold.data.extract))
        if oracle is None:
            raise CheckFailed(
                "the extract has no true probabilities", todo="ingest the simulated ward again"
            )
        stay_id = self.test.stay_id[self.test.row_stay]
        rows = pl.DataFrame({"stay_id": stay_id, "step": self.test.step})
        step = pl.col("time").rank("ordinal").over("stay_id").cast(pl.Int32)
        joined = rows.join(
            oracle.with_columns(step=step),
            on=["stay_id", "step"],
            how="left",
            maintain_order="left",
        )
        if joined["probability"].null_count():
            raise CheckFailed("the extract has no true probability for some of the held-out rows")
        return joined["probability"].to_numpy()

    @cached_property
    def dose_columns(self) -> dict[str, int]:
        """The drugs, and the columns of their doses among the inputs."""
        names = [feature.name for feature in self.test.features]
        return {
            drug: names.index(f"{drug}_dose")
            for drug in self.options.drugs
            if f"{drug}_dose" in names
        }

    def added_dose(self, drug: str) -> float:
        """The dose whose effect is studied, in the drug's unit."""
        return self.study.dose * self.options.drugs[drug].reference

    def predictor(self, model: str) -> Predict:
        """The model as a function of raw sequences."""
        package = self.model_packages[model]

        def predict(sequences: Sequences) -> Floats:
            return package.model.predict_proba(self.scale(model, sequences))

        return predict

    def scale(self, model: str, sequences: Sequences) -> Sequences:
        """The sequences with the inputs of the model."""
        scaler = self.model_packages[model].scaler
        return scaler.transform(sequences) if scaler else sequences
