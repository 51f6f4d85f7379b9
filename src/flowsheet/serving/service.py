"""The models behind the pages: champion, shadow, and the thread that keeps them up to date."""

from __future__ import annotations

from typing import Any

from flowsheet import __version__
from flowsheet.serving.metrics import Metrics
from flowsheet.serving.model_slot import Holder, Loaded, Watcher
from flowsheet.serving.scorer import Scored
from flowsheet.serving.settings import ServeConfig
from flowsheet.serving.shadow import Shadow
from flowsheet.state.home import home


class Service:
    """What one server process holds."""

    def __init__(self, config: ServeConfig) -> None:
        self.config, self.metrics = config, Metrics()
        self.champion = Holder(config.name, config.alias, self._changed)
        self.challenger = (
            Holder(config.name, config.shadow, self._changed) if config.shadow else None
        )
        self.shadow: Shadow | None = None
        if self.challenger is not None:
            rival = self.challenger
            self.shadow = Shadow(
                lambda: rival.current, home() / "serving" / "shadow" / config.name, self.metrics
            )
        self.watcher = Watcher(
            [h for h in (self.champion, self.challenger) if h], config.poll_seconds
        )

    def load(self) -> None:
        """Take in the champion; a challenger that is missing is looked for again later.

        Raises:
            FlowsheetError: the champion does not load.
        """
        self.champion.load()
        if self.challenger is not None:
            self.challenger.refresh()

    def start(self) -> None:
        """Begin to watch the registry and to shadow."""
        self.watcher.start()
        if self.shadow is not None:
            self.shadow.start()

    def close(self) -> None:
        """End both."""
        self.watcher.stop()
        if self.shadow is not None:
            self.shadow.close(5.0)

    def champion_now(self) -> Loaded:
        """The version that answers a batch that begins now."""
        assert self.champion.current is not None
        return self.champion.current

    def look_on(self, scored: Scored) -> None:
        """Told of every batch that was answered."""
        if self.shadow is not None:
            self.shadow.offer(scored)

    def health(self) -> dict[str, Any]:
        """Degraded: an alias points at something that could not be loaded, and the former version answers."""
        holders = {"champion": self.champion, "challenger": self.challenger}
        models = {role: _state(holder) for role, holder in holders.items() if holder}
        well = self.champion.error is None
        return {"status": "ok" if well else "degraded", **models}

    def version(self) -> dict[str, Any]:
        """The release, and what of each model is fixed."""
        holders = (self.champion, self.challenger)
        return {
            "flowsheet": __version__,
            "models": [_about(h.current) for h in holders if h and h.current],
        }

    def _changed(self, alias: str, well: bool) -> None:
        holder = self.champion if alias == self.config.alias else self.challenger
        self.metrics.loads.labels(alias, "loaded" if well else "failed").inc()
        self.metrics.stale.labels(alias).set_function(lambda: float(bool(holder and holder.error)))
        if holder and holder.current:
            self.metrics.model.labels(holder.name, alias).set(holder.current.version)


def _state(holder: Holder) -> dict[str, Any]:
    model = holder.current
    return {
        "model": holder.name,
        "alias": holder.alias,
        "version": model.version if model else None,
        "loaded_at": model.loaded_at if model else None,
        "looked_at": holder.looked_at,  # when the registry last answered
        "error": holder.error,
    }


def _about(model: Loaded) -> dict[str, Any]:
    model_package = model.model_package
    return {
        "name": model.name,
        "version": model.version,
        "alias": model.alias,
        "kind": model_package.kind,
        "training_key": model_package.training_key,
        "trained_by": model_package.version,
        "task": model_package.task.model_dump(mode="json"),
        "variables": list(model_package.columns["variables"]),
        "drugs": list(model_package.columns["drugs"]),
    }
