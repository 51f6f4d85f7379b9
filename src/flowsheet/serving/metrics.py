"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOGETHER = (1, 2, 4, 8, 16, 32, 64)
_DIFFERENCE = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """The server's own registry of metrics; nothing here is about a patient."""

    def __init__(self) -> None:
        self.registry = held = CollectorRegistry()
        ProcessCollector(registry=held)
        self.requests = Counter(
            "flowsheet_requests", "Requests answered", ["path", "status"], registry=held
        )
        self.refused = Counter(
            "flowsheet_refused", "Requests turned away, by kind of error", ["kind"], registry=held
        )
        self.seconds = Histogram(
            "flowsheet_predict_seconds",
            "From a whole body to its answer",
            buckets=_SECONDS,
            registry=held,
        )
        self.together = Histogram(
            "flowsheet_batch_requests", "Requests a batch", buckets=_TOGETHER, registry=held
        )
        self.waiting = Gauge(
            "flowsheet_waiting_requests", "Requests that wait for a batch", registry=held
        )
        self.rows = Counter("flowsheet_rows", "Rows of raw records read for answers", registry=held)
        self.stays = Counter("flowsheet_stays", "Stays scored", registry=held)
        self.steps = Counter("flowsheet_steps", "Steps scored", registry=held)
        self.model = Gauge(
            "flowsheet_model_version", "Version in memory", ["model", "alias"], registry=held
        )
        self.loads = Counter(
            "flowsheet_model_loads", "Versions taken in or not", ["alias", "outcome"], registry=held
        )
        self.stale = Gauge(
            "flowsheet_model_stale",
            "1: the last look at the registry failed",
            ["alias"],
            registry=held,
        )
        self.shadow = Counter(
            "flowsheet_shadow_batches", "Batches offered to the shadow", ["outcome"], registry=held
        )
        self.shadow_steps = Counter(
            "flowsheet_shadow_steps", "Steps scored by both versions", registry=held
        )
        self.difference = Histogram(
            "flowsheet_shadow_difference",
            "Between both risks of a step",
            buckets=_DIFFERENCE,
            registry=held,
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
