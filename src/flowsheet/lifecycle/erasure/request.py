"""An erasure that has begun: what it has to do, so that it can be completed after a kill."""

from __future__ import annotations

import uuid

from pydantic import Field, ValidationError

from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.erasure.places import Place
from flowsheet.lifecycle.erasure.tables import Ids
from flowsheet.state.erasures import pending_file
from flowsheet.state.json_files import read_json, write_json


class MarkedRun(FrozenModel):
    """A run whose records had one of the subjects."""

    run_id: str
    in_training: bool
    """A model was trained on one of them, or that is not known."""


class ErasureRequest(FrozenModel):
    """Subjects to erase, the places that are left, and what was erased so far."""

    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    subjects: tuple[int, ...] = ()
    stays: tuple[int, ...] = ()
    actor: str = ""
    reason: str = ""
    places: tuple[Place, ...] = ()
    """In the order in which they are erased."""
    runs: tuple[MarkedRun, ...] = ()
    erased: dict[str, int] = Field(default_factory=dict)
    """{what: rows}."""

    @property
    def ids(self) -> Ids:
        """The subjects and their stays."""
        return Ids(frozenset(self.subjects), frozenset(self.stays))

    def join(self, other: ErasureRequest) -> ErasureRequest:
        """This request with the subjects, places and runs of another one."""
        places = {place.path: place for place in (*other.places, *self.places)}
        runs = {run.run_id: run for run in (*other.runs, *self.runs)}
        return self.model_copy(
            update={
                "subjects": tuple(sorted({*self.subjects, *other.subjects})),
                "stays": tuple(sorted({*self.stays, *other.stays})),
                "places": tuple(places.values()),
                "runs": tuple(runs.values()),
            }
        )

    def without(self, place: Place) -> ErasureRequest:
        """The request after a place was erased."""
        erased = {**self.erased, place.group: self.erased.get(place.group, 0) + place.rows}
        places = tuple(left for left in self.places if left != place)
        return self.model_copy(update={"places": places, "erased": erased})

    def save(self) -> None:
        """Write it to the state folder, where it is until the erasure is complete."""
        pending_file().touch(mode=0o600)
        write_json(pending_file(), self.model_dump(mode="json"))
        pending_file().chmod(0o600)


def load_pending() -> ErasureRequest | None:
    """The erasure that was interrupted, if there is one.

    Raises:
        CheckFailed: its file is damaged.
    """
    file = pending_file()
    if not file.is_file() or not file.stat().st_size:
        return None
    try:
        return ErasureRequest.model_validate(read_json(file))
    except (OSError, ValueError, ValidationError) as error:
        raise CheckFailed(
            "the file of an interrupted erasure cannot be read",
            where=str(file),
            todo="delete it, and start the erasure of the same subjects again",
        ) from error
