"""What a model was trained on, as it travels with the model: sketches and figures, no identifiers, no rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.monitoring.performance import Performance, performance
from flowsheet.monitoring.profile import VERSION
from flowsheet.monitoring.sketch import Sketch
from flowsheet.state.json_files import write_json

MINIMUM_EVENTS = 20
"""Rows of either kind that the reference's own figures need."""


class Entry(FrozenModel):
    """The distribution of one property over stays."""

    kind: str
    of: str
    sketch: Sketch


class Reference(FrozenModel):
    """The records that a model was trained on, and what it said of subjects that it was not trained on."""

    version: int
    stays: int
    subjects: int
    """Trained on."""
    entries: tuple[Entry, ...]
    """Of these stays; the risks of the kind ``risk`` are of the others."""
    measured_on: str
    """Whose risks and figures these are: the ``test``, ``valid`` or, where nobody was held out, ``train`` subjects."""
    performance: Performance

    @classmethod
    def of(cls, profile: pl.DataFrame, risks: pl.DataFrame, measured_on: str) -> Reference:
        """From the training stays' profile (``PROFILE``) and the risks (``RISKS``) of the ``measured_on`` subjects."""
        return cls(
            version=VERSION,
            stays=profile["stay_id"].n_unique(),
            subjects=profile["subject_id"].n_unique(),
            entries=(*sketches(profile), *sketches(mean_risk_profile(risks))),
            measured_on=measured_on,
            performance=performance(risks, MINIMUM_EVENTS),
        )

    def save(self, folder: Path) -> None:
        """Write ``reference.json`` into a new folder."""
        folder.mkdir()
        write_json(folder / "reference.json", self.model_dump(mode="json"))

    @classmethod
    def read(cls, held: Mapping[str, Any] | None, where: str) -> Reference:
        """The reference that a model's package holds.

        Raises:
            CheckFailed: it holds none, or one of another release.
        """
        todo = "train the model again with this release and register it"
        if held is None:
            raise CheckFailed(
                "the model keeps no reference of what it was trained on", where=where, todo=todo
            )
        try:
            found = cls.model_validate(held)
        except ValidationError as error:
            raise CheckFailed(
                "the model's training reference cannot be read", where=where, todo=todo
            ) from error
        if found.version != VERSION:
            what = f"the model's training reference has version {found.version}; this release compares version {VERSION}"
            raise CheckFailed(what, where=where, todo=todo)
        return found


def sketches(profile: pl.DataFrame) -> tuple[Entry, ...]:
    """A sketch of each property in a profile, in the profile's order."""
    parts = profile.partition_by("kind", "of", as_dict=True, maintain_order=True)
    return tuple(
        Entry(
            kind=str(kind),
            of=str(of),
            sketch=Sketch.of(part["number"].to_numpy(), part["subject_id"].to_numpy()),
        )
        for (kind, of), part in parts.items()
    )


def mean_risk_profile(risks: pl.DataFrame) -> pl.DataFrame:
    """Each stay's mean risk, as lines of a profile."""
    means = (
        risks.group_by("stay_id", "subject_id").agg(number=pl.col("risk").mean()).sort("stay_id")
    )
    return means.select(
        "stay_id", "subject_id", kind=pl.lit("risk"), of=pl.lit("mean risk"), number="number"
    )
