"""Check an experiment's configuration before any work starts."""

from __future__ import annotations

from flowsheet.cohort.ingest import make_source
from flowsheet.config import ExperimentConfig
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.evaluation.metrics import make_score_function, select_metrics
from flowsheet.evaluation.threshold import check_alerting
from flowsheet.lifecycle.experiment.ablation.plan import check_ablation
from flowsheet.models.base import MODELS
from flowsheet.plugins import is_plugin
from flowsheet.tuning.space import resolve


def check_config(config: ExperimentConfig) -> None:
    """Check what the configuration's schema cannot: source options, model parameters and metrics.

    Raises:
        UsageError: a name, option or parameter is unknown; the message names the closest match.
    """
    make_source(config.cohort)
    make_score_function(config.tuning.metric)
    select_metrics(config.evaluation.operating_points, config.evaluation.metric)
    check_alerting(config.alerting, config.task)
    for name, model in config.models.items():
        resolve(model.kind, model)
        _check_members(config, name)
    check_ablation(config)


def _check_members(config: ExperimentConfig, name: str) -> None:
    """Check the models that a model is made of.

    Raises:
        UsageError: one is no model, is made of models itself, or is a plug-in.
    """
    model = config.models[name]
    if "members" not in MODELS.get(model.kind).Params.model_fields:
        return
    if config.tuning.leave_out and resolve(model.kind, model).ranges:
        raise UsageError(
            "a model made of others cannot be tuned by groups that are left out: its members are "
            "fitted on all of them",
            where=f"models.{name}.space",
            todo=f"set models.{name}.space={{}}, or tuning.leave_out=null",
        )
    params = resolve(model.kind, model).params({})
    for member in getattr(params, "members", ()):
        where = f"models.{name}.params.members"
        known = sorted({*config.models, *MODELS.names()} - {name})
        if member not in known:
            raise UsageError(
                f"there is no model called {member!r}",
                where=where,
                todo=did_you_mean(member, known),
            )
        kind = config.models[member].kind if member in config.models else member
        if "members" in MODELS.get(kind).Params.model_fields or is_plugin(MODELS.get(kind)):
            raise UsageError(
                f"{member} cannot be a member",
                where=where,
                todo="name models of Flowsheet's own that are not made of others",
            )
