"""The interface of a response: the tables of some stays in, the contract's episodes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort.completeness import Needs
from flowsheet.cohort.schema import EPISODES, SORT_KEYS, to_contract
from flowsheet.cohort.sepsis3.frames import LabelInputs
from flowsheet.config import FrozenModel
from flowsheet.plugins import Registry

Records = LabelInputs
"""The tables from which the episodes of some stays follow."""


@dataclass(frozen=True)
class Words:
    """How reports, cards and errors speak of a response."""

    name: str
    """A noun: "sepsis", "acute kidney injury"."""
    state: str
    """What patients are during an episode: "septic", "in kidney injury"."""
    enter: str
    """What happens at the onset, as an infinitive: "become septic", "die"."""
    recurs: bool = True
    """Whether it may happen to a patient more than once."""
    is_infection: bool = False
    """Whether anti-infectives treat it: predictions before them are then evaluated apart."""

    @property
    def not_yet(self) -> str:
        """What patients are before: "not yet septic"."""
        return f"not yet {self.state}"

    @property
    def first_onset(self) -> str:
        """The onset that ends a prediction of onsets: "the first sepsis", "death"."""
        return f"the first {self.name.removeprefix('the ')}" if self.recurs else self.name


SEPSIS_WORDS = Words("sepsis", "septic", "become septic", is_infection=True)
"""The first response, and the words where no other is named."""
NEUTRAL_STATE = "with the outcome"
"""What patients are of whose response no more than the name is known."""


class Response(ABC):
    """Something that may happen to a patient, and the rule by which the records show it.

    A new response is one new module in this package: a subclass with
    ``@RESPONSES.register("name")``, its ``Options`` with a documented default for every choice, its
    published source in the docstring, and a test that subclasses the conformance suite
    ``flowsheet.testing.responses.ResponseConformance``.
    """

    Options: ClassVar[type[FrozenModel]] = FrozenModel
    words: ClassVar[Words]
    version: ClassVar[int] = 1
    """Increase it when the same records give other episodes: cached extracts are then rebuilt."""

    def __init__(self, options: Any) -> None:
        """``options`` is an instance of ``Options``."""
        self.options = options

    def needs(self) -> Needs:
        """What it cannot be computed without; records that lack it are refused."""
        return Needs()

    @abstractmethod
    def find_episodes(self, records: Records) -> pl.DataFrame:
        """The episodes of whole stays, whose rows come in any order.

        Returns:
            stay_id, onset, end (null: until the record ends), known_at and, where it is known,
            present_on_admission; no two episodes of a stay overlap.
        """


RESPONSES: Registry[Response] = Registry("response", "flowsheet.cohort.responses")


def find_words(name: str) -> Words:
    """How to speak of a response; records may have one that no module defines.

    >>> find_words("aki").not_yet, find_words("delirium").state
    ('not yet in kidney injury', 'with the outcome')
    """
    if name in RESPONSES.names():
        return RESPONSES.get(name).words
    noun = name.replace("_", " ")
    return Words(name=noun, state=NEUTRAL_STATE, enter=f"have {noun}")


def find_episodes(name: str, response: Response, records: Records) -> pl.DataFrame:
    """The contract's episodes of a response, sorted.

    Args:
        name: of the response.
        response: with its options.
        records: the tables of some stays.
    """
    found = response.find_episodes(records).with_columns(response=pl.lit(name, pl.String))
    episodes = to_contract("episodes", found)
    assert list(episodes.schema) == list(EPISODES)
    return episodes.sort(SORT_KEYS["episodes"])
