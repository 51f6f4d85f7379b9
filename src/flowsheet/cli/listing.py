"""What there is to choose from, and what has been made."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from flowsheet.cli.console import console, table
from flowsheet.compose import choices, load
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.timestamps import format_local_minute

Rows = tuple[list[str], list[list[str]]]


def show(what: str) -> None:
    """Print one list.

    Raises:
        UsageError: there is no such list.
    """
    if what not in _LISTS:
        raise UsageError(
            f"there is nothing called {what!r} to list", todo=did_you_mean(what, _LISTS)
        )
    columns, rows = _LISTS[what]()
    _print(console(), what, columns, rows)


def _print(out: Console, what: str, columns: list[str], rows: list[list[str]]) -> None:
    if rows:
        out.print(table(what, columns, rows))
    else:
        out.print(f"no {what} yet")


def _choices(group: str) -> Callable[[], Rows]:
    def rows() -> Rows:
        described = [(name, load(group, name)) for name in choices(group)]
        return ["name", "what"], [[name, _about(values)] for name, values in described]

    return rows


def _about(values: dict[str, object]) -> str:
    if "description" in values:
        return str(values["description"])
    shown = {
        k: v
        for k, v in values.items()
        if k not in ("name", "options", "quarantine") and not isinstance(v, dict)
    }
    return ", ".join(f"{key}={value}" for key, value in shown.items())


def _models() -> Rows:
    from flowsheet.models.base import MODELS, ModelFamily

    ladder = list(ModelFamily)
    known = sorted(
        (ladder.index(m.capabilities.family), name, m.capabilities) for name, m in MODELS
    )
    return ["name", "family", "input"], [
        [name, can.family.value, can.input_description] for _, name, can in known
    ]


def _sources() -> Rows:
    from flowsheet.cohort.sources.base import SOURCES

    return ["name", "what", "licence"], [
        [name, _first_line(source), source.licence] for name, source in SOURCES
    ]


def _metrics() -> Rows:
    from flowsheet.evaluation.metrics import METRICS

    return ["name", "what"], [[name, _first_line(metric)] for name, metric in METRICS]


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _runs() -> Rows:
    from flowsheet.tracking.runs import list_runs

    return list_runs()


def _registry() -> Rows:
    from flowsheet.tracking.model_registry import list_models

    return list_models()


def _decisions() -> Rows:
    from flowsheet.tracking.decisions import load_decisions

    header = ["number", "at", "decision", "model", "former", "actor", "reason"]
    return header, [
        [
            str(d.number),
            format_local_minute(d.decided_at),
            d.action,
            f"{d.name}/{d.version}",
            "" if d.previous_version is None else str(d.previous_version),
            d.actor,
            d.reason,
        ]
        for d in load_decisions()
    ]


_LISTS: dict[str, Callable[[], Rows]] = {
    "experiments": _choices("experiment"),
    "cohorts": _choices("cohort"),
    "tasks": _choices("task"),
    "features": _choices("features"),
    "tunings": _choices("tuning"),
    "evaluations": _choices("evaluation"),
    "computes": _choices("compute"),
    "promotions": _choices("promotion"),
    "monitorings": _choices("monitoring"),
    "models": _models,
    "sources": _sources,
    "metrics": _metrics,
    "runs": _runs,
    "registry": _registry,
    "decisions": _decisions,
}
