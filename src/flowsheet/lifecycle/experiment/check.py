"""Check an experiment's configuration before any work starts."""

from __future__ import annotations

from flowsheet.cohort.ingest import make_source
from flowsheet.config import ExperimentConfig
from flowsheet.evaluation.metrics import METRICS, make_score_function
from flowsheet.tuning.space import resolve


def check_config(config: ExperimentConfig) -> None:
    """Check what the configuration's schema cannot: source options, model parameters and metrics.

    Raises:
        UsageError: a name, option or parameter is unknown; the message names the closest match.
    """
    make_source(config.cohort)
    make_score_function(config.tuning.metric)
    METRICS.get(config.evaluation.metric)
    for model in config.models.values():
        resolve(model.kind, model)
