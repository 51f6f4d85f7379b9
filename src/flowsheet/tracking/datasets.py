"""Data sets as inputs of MLflow runs: names, fingerprints and counts, but no rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_MAX_DIGEST_LENGTH = 36
"""Of MLflow's database column."""


@dataclass(frozen=True)
class DataSet:
    """A data set that a run used."""

    name: str
    digest: str
    source: str
    context: str = "training"
    """What it was used for."""
    counts: Mapping[str, int] | None = None
    """{what: number of rows}."""

    def to_mlflow(self) -> DatasetInput:
        """The data set as MLflow's entity; the digest is shortened to what MLflow can store."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        profile = json.dumps(dict(self.counts)) if self.counts else None
        digest = self.digest[:_MAX_DIGEST_LENGTH]
        dataset = Dataset(self.name, digest, "flowsheet", self.source, profile=profile)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", self.context)])
