"""Refuse a wrong experiment before any work is done."""

from __future__ import annotations

from flowsheet.cohort.ingest import make_source
from flowsheet.config import ExperimentConfig
from flowsheet.evaluation.metrics import METRICS, make_score_function
from flowsheet.tuning.space import resolve


def check_config(config: ExperimentConfig) -> None:
    """Look at what the frozen schema cannot know: the source's options, the models' parameters, the
    metrics.

    Raises:
        UsageError: a name, option or parameter is not known; the message names the nearest one.
    """
    make_source(config.cohort)
    make_score_function(config.tuning.metric)
    METRICS.get(config.evaluation.metric)
    for model in config.models.values():
        resolve(model.kind, model)
