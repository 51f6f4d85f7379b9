"""``flowsheet ls``: what there is to choose from, and what has been recorded."""

from __future__ import annotations

from collections.abc import Callable

import click

from flowsheet.cli import options
from flowsheet.cli.completion import complete_from

Listing = tuple[list[str], list[list[str]]]
"""Names of columns, and rows."""


@click.command()
@click.argument("what", required=False, shell_complete=complete_from(lambda: list(_LISTINGS)))
@options.conf
@options.log_level
@options.as_json
def ls(what: str | None, as_json: bool) -> None:
    """List WHAT: experiments, cohorts, variables, models, metrics, runs, registry, decisions, ...

    Without WHAT: all that can be listed.
    """
    from flowsheet.cli.console import console, make_table, print_json
    from flowsheet.errors import UsageError, did_you_mean

    if what and what not in _LISTINGS:
        raise UsageError(
            f"there is nothing called {what!r} to list", todo=did_you_mean(what, _LISTINGS)
        )
    columns, rows = _LISTINGS[what][1]() if what else _list_listings()
    if as_json:
        keys = [column.replace(" ", "_") for column in columns]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        title = what or "flowsheet ls"
        console().print(make_table(title, columns, rows) if rows else f"no {what} yet")


def _list_listings() -> Listing:
    rows = [[name, description] for name, (description, _) in _LISTINGS.items()]
    return ["what", "description"], rows


def _list_configs(group: str) -> Callable[[], Listing]:
    def list_group() -> Listing:
        from flowsheet.compose import choices, comment, load

        rows = []
        for name in choices(group):
            values = load(group, name)
            description = values.get("description") or comment(group, name)
            rows.append([name, str(description or _describe_config(values))])
        return ["name", "description"], rows

    return list_group


def _describe_config(values: dict[str, object]) -> str:
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


def _list_variables() -> Listing:
    from flowsheet.cohort.catalogue import variables

    rows = []
    for concept in variables().values():
        limits = [f"{concept.low:g}", f"{concept.high:g}"]
        rows.append([concept.name, concept.label, concept.kind, concept.unit, *limits])
    return ["name", "label", "kind", "unit", "low", "high"], rows


def _list_drugs() -> Listing:
    from flowsheet.cohort.catalogue import drugs

    rows = [
        [concept.name, concept.label, concept.group, concept.unit, f"{concept.unit}/h"]
        for concept in drugs().values()
    ]
    return ["name", "label", "group", "unit of a dose", "unit of an infusion"], rows


def _list_studies() -> Listing:
    from flowsheet.lifecycle.experiment.studies import list_studies

    return list_studies()


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
    from flowsheet.cli.run import mark_dead_flow_runs
    from flowsheet.lifecycle.experiment.lock import close_dead_runs
    from flowsheet.tracking.run_list import list_runs
    from flowsheet.tracking.store import is_empty

    if not is_empty():
        close_dead_runs()
        mark_dead_flow_runs()
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
                decision.reference,
                "" if previous is None else str(previous),
                decision.package_digest[:12],
                decision.actor,
                decision.explanation,
            ]
        )
    return columns, rows


_LISTINGS: dict[str, tuple[str, Callable[[], Listing]]] = {
    "experiments": ("what flowsheet run can run", _list_configs("experiment")),
    "cohorts": ("whose records", _list_configs("cohort")),
    "tasks": ("what is predicted, and when", _list_configs("task")),
    "features": ("the inputs of the models", _list_configs("features")),
    "models": ("model families and their inputs", _list_models),
    "tunings": ("how long to search for parameters", _list_configs("tuning")),
    "evaluations": ("protocols of evaluation", _list_configs("evaluation")),
    "metrics": ("what is measured on held-out subjects", _list_metrics),
    "computes": ("where to train", _list_configs("compute")),
    "promotions": ("gates of a promotion", _list_configs("promotion")),
    "monitorings": ("limits of drift", _list_configs("monitoring")),
    "sources": ("kinds of records that can be read", _list_sources),
    "variables": ("the catalogue's variables, with units and plausible ranges", _list_variables),
    "drugs": ("the catalogue's drugs, with units", _list_drugs),
    "runs": ("recorded experiments, the latest first", _list_runs),
    "studies": ("searches for the parameters of a model", _list_studies),
    "registry": ("registered models", _list_registry),
    "decisions": ("promotions and rollbacks", _list_decisions),
}
"""{what: (description, function that lists it)}."""
