"""Check an experiment's configuration before any work starts."""

from __future__ import annotations

from flowsheet.cohort.ingest import make_source
from flowsheet.config import ExperimentConfig
from flowsheet.evaluation.metrics import make_score_function, select_metrics
from flowsheet.tuning.space import resolve


def check_config(config: ExperimentConfig) -> None:
    """Check what the configuration's schema cannot: source options, model parameters and metrics.

    Raises:
        UsageError: a name, option or parameter is unknown; the message names the closest match.
    """
    make_source(config.cohort)
    make_score_function(config.tuning.metric)
    select_metrics(config.evaluation.operating_points, config.evaluation.metric)
    for model in config.models.values():
        resolve(model.kind, model)
