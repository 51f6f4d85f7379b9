"""Sources whose batches any process can build, once the records have been read.

What was read waits in groups of stays, in memory or in files of the folder of the spill. A process
that has this folder builds the batch of a group, checks it, and leaves it there; the process of the
ingest puts the batches together in their order, and builds those that are not there.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from flowsheet.cohort.checked_batches import CheckedBatch
from flowsheet.cohort.recipe import Recipe
from flowsheet.cohort.sources.base import Source, StayBatch
from flowsheet.cohort.spill import remove_if_abandoned, spill_folder
from flowsheet.errors import CheckFailed

_BUILDER_THREADS = 2
"""Threads that build batches beside the one that checks and writes them; most of the work releases
Python's lock."""
_FAILED = "failed"

Item = TypeVar("Item")


class ParsedGroups(ABC):
    """Records that have been read, in groups of stays."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder of the spill."""

    @property
    @abstractmethod
    def n_groups(self) -> int:
        """At least 1: also records without stays have a first batch."""

    @abstractmethod
    def build_batch(self, group: int) -> StayBatch:
        """The batch of a group: the same in any process, and once only in each."""

    @abstractmethod
    def last_stay_before(self, group: int) -> int | None:
        """The greatest id of a stay of earlier groups."""

    @abstractmethod
    def estimate_memory(self) -> int:
        """Bytes of a process that builds the largest group."""

    @abstractmethod
    def save(self) -> None:
        """Write what other processes need to build batches to the folder."""


class DividedSource(Source):
    """A source that reads its records in one pass, and then builds batches group by group."""

    @property
    @abstractmethod
    def stays_per_group(self) -> int:
        """The most stays of a group."""

    @abstractmethod
    def parse(self, folder: Path) -> ParsedGroups:
        """Read the records.

        Args:
            folder: for what does not fit in memory; created when first needed.
        """

    @abstractmethod
    def load_groups(self, folder: Path) -> ParsedGroups:
        """What :meth:`ParsedGroups.save` of the same source wrote; the records are not needed."""

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order of their ids."""
        with spill_folder() as folder:
            parsed = self.parse(folder)
            yield from build_ahead(parsed.build_batch, range(parsed.n_groups))


BuildGroups = Callable[[ParsedGroups], None]
"""Has other processes build groups with :func:`build_piece`; all of them, some or none."""


def build_piece(groups: ParsedGroups, group: int, recipe: Recipe) -> None:
    """Build the batch of a group and leave it in the folder.

    One that fails the checks is left to the process of the ingest, which raises its error in the
    order of the stays; the other processes then stop.

    Args:
        groups: what has been read.
        group: number of the group.
        recipe: how rows are made of it.
    """
    failed = groups.folder / _FAILED
    target = _find_piece(recipe, groups.folder, group)
    if target.exists() or failed.exists():
        return
    try:
        batch = groups.build_batch(group)
        checked = recipe.checker.check(batch, groups.last_stay_before(group))
    except CheckFailed:
        failed.touch()
        return
    try:
        checked.save(target)
    finally:
        remove_if_abandoned(groups.folder)


def collect_pieces(groups: ParsedGroups, recipe: Recipe) -> Iterator[CheckedBatch]:
    """The batches of all groups in their order; those that no process has built are built here.

    Args:
        groups: what has been read.
        recipe: how rows are made of it.
    """

    def find_or_build(group: int) -> CheckedBatch | StayBatch:
        piece = _find_piece(recipe, groups.folder, group)
        if not piece.exists():
            return groups.build_batch(group)
        checked = CheckedBatch.load(piece)
        shutil.rmtree(piece, ignore_errors=True)
        return checked

    for group, batch in enumerate(build_ahead(find_or_build, range(groups.n_groups))):
        if isinstance(batch, StayBatch):
            yield recipe.checker.check(batch, groups.last_stay_before(group))
        else:
            yield batch


def _find_piece(recipe: Recipe, folder: Path, group: int) -> Path:
    """Where a process leaves the batch of a group."""
    return folder / f"checked-{recipe.key[:16]}-{group}"


def build_ahead(build: Callable[[int], Item], groups: Iterable[int]) -> Iterator[Item]:
    """Yield what is built of the groups in order, while the next two are being built."""
    pending: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(_BUILDER_THREADS) as builders:
        for group in groups:
            pending.append(builders.submit(build, group))
            if len(pending) > _BUILDER_THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
