"""The model version that an alias points at, kept in memory and replaced when the alias moves.

A scorer reads ``current`` once and finishes its batch with it; replacing it is a single assignment.
If a version cannot be loaded, the previous one stays and ``error`` holds the reason. Every new
version is tried in a child process first, which a reader in compiled code may end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flowsheet.errors import CheckFailed, first_line, mask_secrets
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.serving import load_trial
from flowsheet.serving.structured_logging import log_event
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.model_registry import ModelVersion

RETRY_SECONDS = 600.0
"""A version that failed its trial is tried again after this time, not at every poll."""


@dataclass(frozen=True)
class LoadedModel:
    """A version of a registered model in memory."""

    name: str
    version: int
    alias: str
    model_package: ModelPackage
    loaded_at: datetime


class ModelSlot:
    """Holds the version that one alias of one registered model points at."""

    def __init__(
        self,
        name: str,
        alias: str,
        on_load: Callable[[str, bool], None] = lambda alias, succeeded: None,
    ) -> None:
        """``on_load`` is called with (alias, whether it succeeded) after each attempt to load."""
        self.name = name
        self.alias = alias
        self.current: LoadedModel | None = None
        self.error: str | None = None
        self.checked_at: datetime | None = None
        self._on_load = on_load
        self._failed_trial: tuple[int, float, CheckFailed] | None = None
        """Version, time and reason of the last failed trial."""

    def load(self) -> None:
        """Resolve the alias, and load the version if it is another one than the current.

        Raises:
            FlowsheetError: there is no such version, or it cannot be loaded; ``current`` stays.
        """
        registered = model_registry.get_version_by_alias(self.name, self.alias)
        self.checked_at = datetime.now(UTC)
        if self.current is not None and self.current.version == registered.version:
            self.error = None
            return
        model = LoadedModel(
            name=self.name,
            version=registered.version,
            alias=self.alias,
            model_package=self._load_package(registered),
            loaded_at=datetime.now(UTC),
        )
        previous = self._current_version()
        self.current, self.error = model, None
        self._on_load(self.alias, True)
        log_event(
            "model_loaded",
            model=self.name,
            alias=self.alias,
            version=model.version,
            previous_version=previous,
        )

    def refresh(self) -> None:
        """:meth:`load`, but keep an error in ``error`` and log it once instead of raising it."""
        try:
            self.load()
        except BaseException as error:  # a panic in compiled code is no Exception
            reason = mask_secrets(first_line(error))
            if reason != self.error:
                log_event(
                    "reload_failed",
                    model=self.name,
                    alias=self.alias,
                    kept_version=self._current_version(),
                    reason=reason,
                )
            self.error = reason
            self._on_load(self.alias, False)

    def _load_package(self, registered: ModelVersion) -> ModelPackage:
        """Load a version in this process after a child process has tried the same files."""
        self._check_trial(registered.version)
        with registered_packages.open_package(registered) as folder:
            try:
                load_trial.try_package(folder, registered.reference)
            except CheckFailed as error:
                self._failed_trial = (registered.version, time.monotonic(), error)
                raise
            model_package = ModelPackage.load(folder)
        load_trial.check_example(model_package, registered.reference)
        return model_package

    def _check_trial(self, version: int) -> None:
        if self._failed_trial is None:
            return
        failed_version, failed_at, error = self._failed_trial
        if failed_version == version and time.monotonic() - failed_at < RETRY_SECONDS:
            raise error

    def _current_version(self) -> int | None:
        return self.current.version if self.current else None


class AliasPoller:
    """Refreshes slots at regular intervals, on its own thread."""

    def __init__(self, slots: Sequence[ModelSlot], seconds: float) -> None:
        self._slots = slots
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alias-poller", daemon=True)

    def start(self) -> None:
        """Start polling; the first poll is one interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, without waiting for a poll that is under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            for slot in self._slots:
                slot.refresh()
