"""What a model package keeps about its development: its subjects, alert policy and censoring.

The subjects that a model was developed on (training, tuning, alert policy) are kept as digests, so
that a later evaluation can prove that it uses none of them. The digests are salted with the
training's key: two packages cannot be joined by them, and no identifier is readable in a package
that travels. They are no secret from somebody who has a list of the identifiers: recognising these
is what they are for.

Identifiers are numbers of a hospital. So that another hospital's patient 17 does not count as the
one who was trained on, digests of the stays are kept as well (subject, admission and discharge):
the subjects with common identifiers are the same people only if most of them have a stay in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.evaluation.alert_policy import AlertPolicy
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Ints
from flowsheet.windows.censoring import Completeness

FOLDER = "development"
"""Folder of the package."""
SAME_PEOPLE_SHARE = 0.5
"""Share of the subjects with known identifiers who must have a known stay to be the same people."""
_KEYS = ("subject_id", "admitted_at", "discharged_at")

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class DevelopmentSubjects:
    """The subjects and stays that a model was developed on, as sorted salted digests."""

    salt: str
    subjects: Digests
    stays: Digests

    @classmethod
    def from_stays(cls, stays: pl.DataFrame, salt: str) -> DevelopmentSubjects:
        """The digests of all subjects and stays in ``stays`` (the contract's table)."""
        subjects = stays["subject_id"].unique().sort().to_list()
        return cls(salt, _digests(salt, subjects), _digests(salt, _stay_keys(stays)))

    def find_seen(self, stays: pl.DataFrame) -> SeenSubjects:
        """Which subjects of ``stays`` (the contract's table) the model was developed on."""
        subjects = stays["subject_id"].unique().sort().to_numpy()
        known = subjects[np.isin(_digests(self.salt, subjects.tolist(), sort=False), self.subjects)]
        of_known = stays.filter(pl.col("subject_id").is_in(known.tolist()))
        has_known_stay = np.isin(_digests(self.salt, _stay_keys(of_known), sort=False), self.stays)
        n_same = of_known.filter(has_known_stay)["subject_id"].n_unique()
        is_same = n_same >= SAME_PEOPLE_SHARE * len(known)
        return SeenSubjects(
            seen=known if is_same else known[:0], n_namesakes=0 if is_same else len(known)
        )


@dataclass(frozen=True)
class SeenSubjects:
    """Subjects of an extract that a model was developed on."""

    seen: Ints
    n_namesakes: int
    """Subjects with the identifier of one, who are other people."""


@dataclass(frozen=True)
class Development:
    """What is known about a package's development."""

    subjects: DevelopmentSubjects
    policy: AlertPolicy
    completeness: Completeness | None
    """With ``censor: competing``: the probabilities that weight the rows at home."""
    extract: str
    """Fingerprint of the extract that it was developed on."""

    def save(self, package: Path) -> None:
        """Write the folder of a package; the manifest is the caller's."""
        folder = package / FOLDER
        folder.mkdir()
        np.save(folder / "subjects.npy", self.subjects.subjects, allow_pickle=False)
        np.save(folder / "stays.npy", self.subjects.stays, allow_pickle=False)
        completeness = self.completeness.model_dump(mode="json") if self.completeness else None
        write_json(
            folder / "development.json",
            {
                "salt": self.subjects.salt,
                "policy": self.policy.model_dump(mode="json"),
                "completeness": completeness,
                "extract": self.extract,
            },
        )

    @classmethod
    def load(cls, package: Path) -> Development:
        """What :meth:`save` wrote."""
        folder = package / FOLDER
        content = read_json(folder / "development.json")
        completeness = content["completeness"]
        policy = content["policy"] if "policy" in content else content["threshold"]
        return cls(
            subjects=DevelopmentSubjects(
                content["salt"],
                np.load(folder / "subjects.npy", allow_pickle=False),
                np.load(folder / "stays.npy", allow_pickle=False),
            ),
            policy=AlertPolicy.model_validate(policy),
            completeness=Completeness.model_validate(completeness) if completeness else None,
            extract=content["extract"],
        )


def _stay_keys(stays: pl.DataFrame) -> list[str]:
    keys = pl.concat_str(
        [pl.col(key).to_physical() for key in _KEYS], separator=":", ignore_nulls=True
    )
    return stays.select(keys).to_series().to_list()


def _digests(salt: str, values: Iterable[object], *, sort: bool = True) -> Digests:
    digests = [blake2b(f"{salt}:{value}".encode(), digest_size=8).digest() for value in values]
    numbers = np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
    return np.unique(numbers) if sort else numbers
