"""The models behind the pages: champion, shadow, and the thread that keeps them up to date."""

from __future__ import annotations

from typing import Any

from flowsheet import __version__
from flowsheet.serving.answer_files import default_folder
from flowsheet.serving.answer_log import AnswerLog
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import AliasPoller, LoadedModel, ModelSlot
from flowsheet.serving.scorer import ScoredBatch
from flowsheet.serving.settings import ServeConfig
from flowsheet.serving.shadow import Shadow

_SHADOW_CLOSE_SECONDS = 5.0
_ANSWERS_CLOSE_SECONDS = 10.0


class Service:
    """The state of one server process."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.champion = ModelSlot(config.name, config.alias, self._record_load)
        self.challenger: ModelSlot | None = None
        self.shadow: Shadow | None = None
        self.answers: AnswerLog | None = None
        if config.keep_answers or config.shadow:
            folder = config.keep_answers or default_folder()
            self.answers = AnswerLog(
                folder, config.name, self.metrics, keep_subjects=config.keep_subjects
            )
        if config.shadow and self.answers:
            challenger = ModelSlot(config.name, config.shadow, self._record_load)
            self.challenger = challenger
            self.shadow = Shadow(lambda: challenger.current, self.answers, self.metrics)
        self.poller = AliasPoller(self._slots(), config.poll_seconds)

    def load(self) -> None:
        """Load the champion, and the challenger if there is one; otherwise it is loaded later.

        Raises:
            FlowsheetError: the champion cannot be loaded.
        """
        self.champion.load()
        if self.challenger is not None:
            self.challenger.refresh()

    def start(self) -> None:
        """Start to poll the registry, to keep answers and to shadow-score."""
        self.poller.start()
        if self.answers is not None:
            self.answers.start()
        if self.shadow is not None:
            self.shadow.start()

    def close(self) -> None:
        """Stop polling and shadow scoring, and write the answers that wait."""
        self.poller.stop()
        if self.shadow is not None:
            self.shadow.close(_SHADOW_CLOSE_SECONDS)
        if self.answers is not None:
            self.answers.close(_ANSWERS_CLOSE_SECONDS)

    def current_champion(self) -> LoadedModel:
        """The version that scores a batch that starts now."""
        assert self.champion.current is not None
        return self.champion.current

    def observe(self, scored: ScoredBatch) -> None:
        """Keep the answers of a batch, and let the challenger score it, where this is asked."""
        if self.answers is not None:
            self.answers.add(scored)
        if self.shadow is not None:
            self.shadow.offer(scored)

    def health(self) -> dict[str, Any]:
        """Status and models; ``degraded`` if the version of the alias cannot be loaded."""
        status = "ok" if self.champion.error is None else "degraded"
        health = {"status": status, "champion": _slot_state(self.champion)}
        if self.challenger is not None:
            health["challenger"] = _slot_state(self.challenger)
        return health

    def version(self) -> dict[str, Any]:
        """The release, and what is fixed for each model in memory."""
        models = [slot.current for slot in self._slots()]
        return {
            "flowsheet": __version__,
            "models": [_describe_model(model) for model in models if model],
        }

    def _slots(self) -> list[ModelSlot]:
        return [self.champion, *([self.challenger] if self.challenger else [])]

    def _record_load(self, alias: str, succeeded: bool) -> None:
        slot = self.champion if alias == self.config.alias else self.challenger
        self.metrics.loads.labels(alias, "loaded" if succeeded else "failed").inc()
        self.metrics.stale.labels(alias).set_function(lambda: float(bool(slot and slot.error)))
        if slot and slot.current:
            self.metrics.model.labels(slot.name, alias).set(slot.current.version)


def _slot_state(slot: ModelSlot) -> dict[str, Any]:
    model = slot.current
    return {
        "model": slot.name,
        "alias": slot.alias,
        "version": model.version if model else None,
        "loaded_at": model.loaded_at if model else None,
        "checked_at": slot.checked_at,  # when the registry last answered
        "error": slot.error,
    }


def _describe_model(model: LoadedModel) -> dict[str, Any]:
    model_package = model.model_package
    return {
        "name": model.name,
        "version": model.version,
        "alias": model.alias,
        "kind": model_package.kind,
        "training_key": model_package.training_key,
        "package_digest": model_package.digest,
        "trained_by": model_package.version,
        "task": model_package.task.model_dump(mode="json"),
        "variables": list(model_package.columns["variables"]),
        "drugs": list(model_package.columns["drugs"]),
    }
