"""The version that an alias stands for, kept in memory and exchanged when the alias moves.

Whoever scores takes ``current`` once and finishes with it; the exchange is a single assignment. A
version that does not load leaves the former one in place, and the reason in ``error``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flowsheet.errors import CheckFailed
from flowsheet.prediction.input_rows import example_tables
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.serving.structured_logging import journal
from flowsheet.tracking import model_registry


@dataclass(frozen=True)
class Loaded:
    """A version in memory."""

    name: str
    version: int
    alias: str
    model_package: ModelPackage
    loaded_at: datetime


class Holder:
    """One alias of one registered model."""

    def __init__(
        self, name: str, alias: str, changed: Callable[[str, bool], None] = lambda alias, well: None
    ) -> None:
        """``changed`` is told (alias, whether it went well) of every exchange that was tried."""
        self.name, self.alias = name, alias
        self.current: Loaded | None = None
        self.error: str | None = None
        self.looked_at: datetime | None = None
        self._changed = changed

    def load(self) -> None:
        """Ask the registry, and take the version in if it is another one.

        Raises:
            FlowsheetError: there is no such version, or it does not load; ``current`` is as before.
        """
        found = model_registry.get_version_by_alias(self.name, self.alias)
        self.looked_at = datetime.now(UTC)
        if self.current is not None and self.current.version == found.version:
            self.error = None
            return
        model = Loaded(
            self.name,
            found.version,
            self.alias,
            model_registry.load_package(found),
            datetime.now(UTC),
        )
        _check(model)
        before = self.current.version if self.current else None
        self.current, self.error = model, None
        self._changed(self.alias, True)
        journal(
            "model_loaded", model=self.name, alias=self.alias, version=found.version, before=before
        )

    def refresh(self) -> None:
        """:meth:`load`; what goes wrong is kept in ``error`` and told in the journal once."""
        try:
            self.load()
        except BaseException as error:  # a panic in compiled code is no Exception
            told = str(error).split("\n", 1)[0] or type(error).__name__
            if told != self.error:
                held = self.current.version if self.current else None
                journal("reload_failed", model=self.name, alias=self.alias, kept=held, reason=told)
            self.error = told
            self._changed(self.alias, False)


class Watcher:
    """Refreshes holders every so many seconds, on a thread of its own."""

    def __init__(self, holders: Sequence[Holder], seconds: float) -> None:
        self._holders, self._seconds = holders, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin; the first look is one interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a look that is under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            for holder in self._holders:
                holder.refresh()


def _check(model: Loaded) -> None:
    """A model that does not answer the example is not taken in; one that does is warm."""
    risk = model.model_package.predict(example_tables())["risk"]
    if not len(risk) or not risk.is_between(0, 1).all():
        raise CheckFailed(
            "the model gives no risks between 0 and 1 for the example",
            f"{model.name}/{model.version}",
        )
