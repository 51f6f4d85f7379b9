"""``flowsheet ls``: what there is to choose from, and what has been recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from flowsheet.cli import options
from flowsheet.cli.completion import complete_from

if TYPE_CHECKING:
    from flowsheet.errors import UsageError
    from flowsheet.plugins import Registry

T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """A table, and what could not be listed."""

    columns: list[str]
    rows: list[list[object]]
    """Text, numbers, None, or {name: number}."""
    errors: tuple[UsageError, ...] = ()


@click.command()
@click.argument("what", required=False, shell_complete=complete_from(lambda: list(_LISTINGS)))
@options.conf
@options.log_level
@options.as_json
def ls(what: str | None, as_json: bool) -> None:
    """List WHAT: experiments, cohorts, variables, models, metrics, runs, registry, decisions, ...

    Without WHAT: all that can be listed. Exits with 1 if a plug-in cannot be loaded, after the list
    of the others.
    """
    from flowsheet.cli.console import console, make_table, print_json
    from flowsheet.errors import CheckFailed, UsageError, did_you_mean

    if what and what not in _LISTINGS:
        raise UsageError(
            f"there is nothing called {what!r} to list", todo=did_you_mean(what, _LISTINGS)
        )
    listing = _LISTINGS[what][1]() if what else _list_listings()
    if as_json:
        keys = [column.replace(" ", "_") for column in listing.columns]
        print_json([dict(zip(keys, row, strict=True)) for row in listing.rows])
    elif listing.rows:
        cells = [[_format_cell(value) for value in row] for row in listing.rows]
        console().print(make_table(what or "flowsheet ls", listing.columns, cells))
    else:
        console().print(f"no {what} yet")
    if listing.errors:
        first = listing.errors[0]
        others = [str(error) for error in listing.errors[1:]]
        raise CheckFailed("; ".join([first.what, *others]), where=first.where, todo=first.todo)


def _format_cell(value: object) -> str:
    """A value as the text of a table's cell.

    >>> [_format_cell(value) for value in (None, 3, 0.43571, 1000.0, {"champion": 2})]
    ['', '3', '0.4357', '1000', 'champion -> 2']
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if value.is_integer() else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} -> {inner}" for name, inner in value.items())
    return str(value)


def _list_listings() -> Listing:
    rows: list[list[object]] = [[name, text] for name, (text, _) in _LISTINGS.items()]
    return Listing(["what", "description"], rows)


def _list_configs(group: str) -> Callable[[], Listing]:
    def list_group() -> Listing:
        from flowsheet.compose import choices, comment, load

        rows: list[list[object]] = []
        for name in choices(group):
            values = load(group, name)
            description = values.get("description") or comment(group, name)
            rows.append([name, str(description or _describe_config(values))])
        return Listing(["name", "description"], rows)

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
    loaded, errors = _load_all(MODELS)
    models = [(name, model.title or name, model.capabilities) for name, model in loaded]
    models.sort(key=lambda model: (families.index(model[2].family), model[0]))
    rows: list[list[object]] = [
        [name, title, able.family.value, able.input_description] for name, title, able in models
    ]
    return Listing(["name", "title", "family", "input"], rows, errors)


def _load_all(registry: Registry[T]) -> tuple[list[tuple[str, type[T]]], tuple[UsageError, ...]]:
    """The classes that can be loaded, and the errors of the others."""
    from flowsheet.errors import UsageError

    loaded, errors = [], []
    for name in registry.names():
        try:
            loaded.append((name, registry.get(name)))
        except UsageError as error:
            errors.append(error)
    return loaded, tuple(errors)


def _list_variables() -> Listing:
    from flowsheet.cohort.catalogue import variables

    columns = ["name", "label", "kind", "unit", "low", "high"]
    rows = [[getattr(concept, column) for column in columns] for concept in variables().values()]
    return Listing(columns, rows)


def _list_drugs() -> Listing:
    from flowsheet.cohort.catalogue import drugs

    rows: list[list[object]] = [
        [concept.name, concept.label, concept.group, concept.unit, f"{concept.unit}/h"]
        for concept in drugs().values()
    ]
    return Listing(["name", "label", "group", "unit of a dose", "unit of an infusion"], rows)


def _list_studies() -> Listing:
    from flowsheet.lifecycle.experiment.studies import list_studies

    return Listing(*list_studies())


def _list_sources() -> Listing:
    from flowsheet.cohort.sources.base import SOURCES

    loaded, errors = _load_all(SOURCES)
    rows: list[list[object]] = [
        [name, _first_line(source), source.licence] for name, source in loaded
    ]
    return Listing(["name", "description", "licence"], rows, errors)


def _list_databases() -> Listing:
    from flowsheet.cohort.engine.source import DatabaseSource
    from flowsheet.cohort.sources.base import SOURCES

    loaded, errors = _load_all(SOURCES)
    found = [(name, source) for name, source in loaded if issubclass(source, DatabaseSource)]
    rows: list[list[object]] = []
    for name, source in found:
        database = source.load()
        rows.append([name, database.spec.title, len(database.tables), str(source.database_file)])
    return Listing(["name", "title", "tables", "file"], rows, errors)


def _list_responses() -> Listing:
    from flowsheet.cohort.responses.base import RESPONSES

    loaded, errors = _load_all(RESPONSES)
    rows: list[list[object]] = [
        [name, response.words.name, _first_line(response), ", ".join(response.Options.model_fields)]
        for name, response in loaded
    ]
    return Listing(["name", "label", "description", "options"], rows, errors)


def _list_metrics() -> Listing:
    from flowsheet.evaluation.metrics import METRICS, OperatingPointMetric, format_name_pattern

    loaded, errors = _load_all(METRICS)
    rows: list[list[object]] = []
    for _, metric in loaded:
        parameter = ""
        if issubclass(metric, OperatingPointMetric):
            parameter = f"{metric.parameter.name}, {metric.parameter.range}"
        rows.append([format_name_pattern(metric), parameter, _first_line(metric)])
    return Listing(["name", "parameter", "description"], rows, errors)


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
    return Listing(*list_runs())


def _list_registry() -> Listing:
    from flowsheet.tracking.model_registry import list_models

    return Listing(*list_models())


def _list_decisions() -> Listing:
    from flowsheet.timestamps import format_local_minute
    from flowsheet.tracking.decisions import load_decisions

    columns = ["number", "time", "decision", "model", "previous version", "package"]
    columns += ["actor", "reason"]
    rows: list[list[object]] = []
    for decision in load_decisions():
        rows.append(
            [
                decision.number,
                format_local_minute(decision.decided_at),
                decision.action,
                decision.reference,
                decision.previous_version,
                decision.package_digest[:12],
                decision.actor,
                decision.explanation,
            ]
        )
    return Listing(columns, rows)


_LISTINGS: dict[str, tuple[str, Callable[[], Listing]]] = {
    "experiments": ("what flowsheet run can run", _list_configs("experiment")),
    "cohorts": ("whose records", _list_configs("cohort")),
    "tasks": ("what is predicted, and when", _list_configs("task")),
    "features": ("the inputs of the models", _list_configs("features")),
    "models": ("model families and their inputs", _list_models),
    "tunings": ("how long to search for parameters", _list_configs("tuning")),
    "evaluations": ("protocols of evaluation", _list_configs("evaluation")),
    "ablations": ("inputs that models are trained again with", _list_configs("ablation")),
    "alertings": (
        "when there is an alert",
        _list_configs("alerting"),
    ),
    "metrics": ("what is measured on held-out subjects", _list_metrics),
    "computes": ("where to train", _list_configs("compute")),
    "promotions": ("gates of a promotion", _list_configs("promotion")),
    "monitorings": ("limits of drift", _list_configs("monitoring")),
    "sources": ("kinds of records that can be read", _list_sources),
    "databases": ("raw tables that a YAML describes", _list_databases),
    "responses": ("what may be predicted", _list_responses),
    "variables": ("the catalogue's variables, with units and plausible ranges", _list_variables),
    "drugs": ("the catalogue's drugs, with units", _list_drugs),
    "runs": ("recorded experiments, the latest first", _list_runs),
    "studies": ("searches for the parameters of a model", _list_studies),
    "registry": ("registered models", _list_registry),
    "decisions": ("promotions and rollbacks", _list_decisions),
}
"""{what: (description, function that lists it)}."""
