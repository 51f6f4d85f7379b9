"""The training reference, part of the model package: distributions and metrics, no patient data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.monitoring.performance import Performance, estimate_performance
from flowsheet.monitoring.profile import PROFILE_VERSION, PropertyKind
from flowsheet.monitoring.sketch import QuantileSketch
from flowsheet.state.json_files import write_json

MINIMUM_EVENTS = 20
"""Rows of either class that the reference's metrics need."""


class PropertyDistribution(FrozenModel):
    """The distribution of one property over stays."""

    kind: PropertyKind
    name: str
    sketch: QuantileSketch


class Reference(FrozenModel):
    """The training records of a model, and its performance on subjects that were held out."""

    version: int
    """``PROFILE_VERSION`` of the release that made it."""
    stays: int
    """Stays in training."""
    subjects: int
    """Subjects in training."""
    distributions: tuple[PropertyDistribution, ...]
    """Over the stays in training; of the kind ``risk``, over those of ``evaluated_on``."""
    evaluated_on: str
    """Subjects of risks and performance: ``test``, ``valid``; ``train`` if none were held out."""
    performance: Performance

    @classmethod
    def from_profile(
        cls, profile: pl.DataFrame, risks: pl.DataFrame, evaluated_on: str
    ) -> Reference:
        """Make a reference.

        Args:
            profile: profile (``PROFILE_SCHEMA``) of the stays in training.
            risks: risks and outcomes (``RISK_SCHEMA``) of the subjects ``evaluated_on``.
            evaluated_on: ``test``, ``valid`` or ``train``.
        """
        risk_profile = mean_risk_profile(risks)
        return cls(
            version=PROFILE_VERSION,
            stays=profile["stay_id"].n_unique(),
            subjects=profile["subject_id"].n_unique(),
            distributions=(*sketch_profile(profile), *sketch_profile(risk_profile)),
            evaluated_on=evaluated_on,
            performance=estimate_performance(risks, MINIMUM_EVENTS),
        )

    def save(self, folder: Path) -> None:
        """Write ``reference.json`` into a new folder."""
        folder.mkdir()
        write_json(folder / "reference.json", self.model_dump(mode="json"))

    @classmethod
    def parse(cls, content: Mapping[str, Any] | None, where: str) -> Reference:
        """Parse the content of ``reference.json``.

        Args:
            content: None if the model package has no reference.
            where: the model version, for error messages.

        Raises:
            CheckFailed: there is no reference, or another release made it.
        """
        todo = "train the model again with this release and register it"
        if content is None:
            raise CheckFailed("the model has no training reference", where=where, todo=todo)
        version = content.get("version")
        if version != PROFILE_VERSION:
            what = (
                f"the model's training reference has version {version}; "
                f"this release needs version {PROFILE_VERSION}"
            )
            raise CheckFailed(what, where=where, todo=todo)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise CheckFailed(
                "the model's training reference is invalid", where=where, todo=todo
            ) from error


def sketch_profile(profile: pl.DataFrame) -> tuple[PropertyDistribution, ...]:
    """The distribution of each property of a profile, in the profile's order."""
    parts = profile.partition_by("kind", "name", as_dict=True, maintain_order=True)
    return tuple(
        PropertyDistribution.model_validate(
            {
                "kind": kind,
                "name": name,
                "sketch": QuantileSketch.from_values(
                    part["value"].to_numpy(), part["subject_id"].to_numpy()
                ),
            }
        )
        for (kind, name), part in parts.items()
    )


def mean_risk_profile(risks: pl.DataFrame) -> pl.DataFrame:
    """Each stay's mean risk as rows of a profile; ``risks`` have the columns of ``RISK_SCHEMA``."""
    stays = risks.group_by("stay_id", "subject_id", maintain_order=True).agg("risk")
    # the mean of a list sums in its order; the mean of a group in the order of polars' threads
    mean = pl.col("risk").list.mean()
    return stays.sort("stay_id").select(
        "stay_id", "subject_id", kind=pl.lit("risk"), name=pl.lit("mean risk"), value=mean
    )
