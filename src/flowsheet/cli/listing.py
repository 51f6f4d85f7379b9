"""``flowsheet ls``: what there is to choose from, and what has been recorded."""

from __future__ import annotations

from collections.abc import Callable

import click

Listing = tuple[list[str], list[list[str]]]
"""Names of columns, and rows."""


@click.command()
@click.argument("what")
def ls(what: str) -> None:
    """List WHAT: experiments, cohorts, models, sources, metrics, runs, registry, decisions, ...

    A wrong WHAT prints all that can be listed.
    """
    from flowsheet.cli.console import console, make_table
    from flowsheet.errors import UsageError, did_you_mean

    if what not in _LISTINGS:
        raise UsageError(
            f"there is nothing called {what!r} to list", todo=did_you_mean(what, _LISTINGS)
        )
    columns, rows = _LISTINGS[what]()
    console().print(make_table(what, columns, rows) if rows else f"no {what} yet")


def _list_configs(group: str) -> Callable[[], Listing]:
    def list_group() -> Listing:
        from flowsheet.compose import choices, load

        rows = [[name, _describe_config(load(group, name))] for name in choices(group)]
        return ["name", "description"], rows

    return list_group


def _describe_config(values: dict[str, object]) -> str:
    if "description" in values:
        return str(values["description"])
    omitted = ("name", "options", "quarantine")
    shown = {
        key: value
        for key, value in values.items()
        if key not in omitted and not isinstance(value, dict)
    }
    return ", ".join(f"{key}={value}" for key, value in shown.items())


def _list_models() -> Listing:
    from flowsheet.models.base import MODELS, ModelFamily

    families = list(ModelFamily)
    models = [(name, model.capabilities) for name, model in MODELS]
    models.sort(key=lambda model: (families.index(model[1].family), model[0]))
    rows = [[name, able.family.value, able.input_description] for name, able in models]
    return ["name", "family", "input"], rows


def _list_sources() -> Listing:
    from flowsheet.cohort.sources.base import SOURCES

    rows = [[name, _first_line(source), source.licence] for name, source in SOURCES]
    return ["name", "description", "licence"], rows


def _list_metrics() -> Listing:
    from flowsheet.evaluation.metrics import METRICS, OperatingPointMetric, format_name_pattern

    rows = []
    for _, metric in METRICS:
        parameter = ""
        if issubclass(metric, OperatingPointMetric):
            parameter = f"{metric.parameter.name}, {metric.parameter.range}"
        rows.append([format_name_pattern(metric), parameter, _first_line(metric)])
    return ["name", "parameter", "description"], rows


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _list_runs() -> Listing:
    from flowsheet.tracking.run_list import list_runs

    return list_runs()


def _list_registry() -> Listing:
    from flowsheet.tracking.model_registry import list_models

    return list_models()


def _list_decisions() -> Listing:
    from flowsheet.timestamps import format_local_minute
    from flowsheet.tracking.decisions import load_decisions

    columns = ["number", "time", "decision", "model", "previous version", "package"]
    columns += ["actor", "reason"]
    rows = []
    for decision in load_decisions():
        previous = decision.previous_version
        rows.append(
            [
                str(decision.number),
                format_local_minute(decision.decided_at),
                decision.action,
                f"{decision.name}/{decision.version}",
                "" if previous is None else str(previous),
                decision.package_digest[:12],
                decision.actor,
                decision.reason,
            ]
        )
    return columns, rows


_LISTINGS: dict[str, Callable[[], Listing]] = {
    "experiments": _list_configs("experiment"),
    "cohorts": _list_configs("cohort"),
    "tasks": _list_configs("task"),
    "features": _list_configs("features"),
    "tunings": _list_configs("tuning"),
    "evaluations": _list_configs("evaluation"),
    "computes": _list_configs("compute"),
    "promotions": _list_configs("promotion"),
    "monitorings": _list_configs("monitoring"),
    "models": _list_models,
    "sources": _list_sources,
    "metrics": _list_metrics,
    "runs": _list_runs,
    "registry": _list_registry,
    "decisions": _list_decisions,
}
