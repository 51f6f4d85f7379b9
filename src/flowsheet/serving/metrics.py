"""The server's Prometheus metrics."""

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
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_DIFFERENCES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """One server's metrics in their own registry; none describes a patient."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests answered", "path", "status")
        self.rejected = self._counter("rejected", "Requests rejected, by kind of error", "kind")
        self.seconds = self._histogram(
            "predict_seconds", "Seconds from a complete body to its answer", _SECONDS
        )
        self.explain_seconds = self._histogram(
            "explain_seconds", "Seconds from a complete body to its explanation", _SECONDS
        )
        self.explained = self._counter("explained_steps", "Steps explained")
        self.batch_size = self._histogram("batch_requests", "Requests per batch", _BATCH_SIZES)
        self.waiting = self._gauge("waiting_requests", "Requests that wait for a batch")
        self.rows = self._counter("rows", "Rows of raw records in scored requests")
        self.stays = self._counter("stays", "Stays scored")
        self.steps = self._counter("steps", "Steps scored")
        self.model = self._gauge("model_version", "Model version in memory", "model", "alias")
        self.loads = self._counter("model_loads", "Model load attempts", "alias", "outcome")
        self.stale = self._gauge(
            "model_stale", "1 if the last attempt to update the model failed", "alias"
        )
        self.shadow = self._counter(
            "shadow_batches", "Batches offered for shadow scoring", "outcome"
        )
        self.shadow_steps = self._counter("shadow_steps", "Steps scored by both versions")
        self.answers = self._counter(
            "kept_answers", "Steps whose answers were kept or lost", "outcome"
        )
        self.answer_errors = self._counter(
            "answer_write_errors", "Attempts to write kept answers that failed"
        )
        self.difference = self._histogram(
            "shadow_difference", "Absolute difference of both versions' risks", _DIFFERENCES
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"flowsheet_{name}", description, labels, registry=self.registry)

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(f"flowsheet_{name}", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"flowsheet_{name}", description, buckets=buckets, registry=self.registry)
