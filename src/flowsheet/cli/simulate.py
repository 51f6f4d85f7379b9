"""Write the simulated ward as raw tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowsheet.cli.console import console, make_table
from flowsheet.cohort.ingest import make_source
from flowsheet.config import CohortConfig, FrozenModel, validate_config
from flowsheet.config.overrides import find_type, is_text, read_text, read_yaml, set_value
from flowsheet.errors import FlowsheetError, UsageError
from flowsheet.state.capacity import check_disk_space

_PREFIX = "raw"
"""Overrides of the raw tables' options start with it: ``raw.KEY=VALUE``."""
_BYTES_A_DAY = 17_000
"""Of a stay in compressed tables; measured: 200 stays of MIMIC-III's format take 20.5 MB."""
_SHOWN_ERRORS = (
    "duplicates",
    "text_values",
    "out_of_range",
    "flagged_errors",
    "missing_ids",
    "rewritten",
)


def check_overwritable(out: Path, marker: str, content: str, *, force: bool) -> None:
    """Check that a path is free or an empty folder; older content of the same kind takes ``force``.

    Args:
        out: the path that is going to be written.
        marker: a file, relative to ``out``, by which older content is recognised.
        content: the kind of content, for the message.
        force: replace older content of the same kind.

    Raises:
        FlowsheetError: there is older or other content.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / marker).is_file():
        raise FlowsheetError(
            f"there are already files other than {content}",
            where=str(out),
            todo="choose a new folder",
        )
    if not force:
        raise FlowsheetError(
            f"there {'are' if content.endswith('s') else 'is'} already {content}",
            where=str(out),
            todo="choose a new folder, or replace what is there with --force",
        )


def write_raw_records(
    shape: str,
    out: Path,
    config: CohortConfig,
    overrides: Sequence[str],
    progress: Callable[[str], None],
) -> None:
    """Write a simulated ward as raw tables, and print the number of rows.

    Args:
        shape: the format, named like the source that reads it.
        out: the folder; an older one is replaced.
        config: the cohort, with the source ``simulated``.
        overrides: options of the raw tables, each as ``raw.KEY=VALUE``.
        progress: receives a line for every hundred stays.

    Raises:
        UsageError: the cohort is not a simulated ward, or an override is wrong.
        CheckFailed: the disk has no room for them.
    """
    from flowsheet.cohort.sources.simulated import SimulatedWard
    from flowsheet.raw_export import write
    from flowsheet.raw_export.options import ExportOptions

    ward = make_source(config)
    if not isinstance(ward, SimulatedWard):
        raise UsageError(
            f"the cohort {config.name!r} is not a simulated ward",
            todo="choose a simulated cohort with --cohort",
        )
    values = _parse_overrides(overrides, ExportOptions)
    options = validate_config(ExportOptions, values, "the raw tables", prefix=(_PREFIX,))
    size = ward.estimate_size()
    check_disk_space(
        f"raw tables of {size.stays:,} stays",
        round(size.hours / 24 * _BYTES_A_DAY),
        out,
        "simulate fewer stays, or write to a larger disk",
    )
    _print_summary(write.write_raw_records(shape, ward.options, options, out, progress), out)


def _parse_overrides(overrides: Sequence[str], model: type[FrozenModel]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.removeprefix(f"{_PREFIX}.").partition("=")
        keys = key.split(".")
        annotation = find_type(model, keys)
        value = read_text(text, annotation) if is_text(annotation) else read_yaml(key, text)
        set_value(values, keys, value)
    return values


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    rows = []
    for name in dict.fromkeys([*summary["rows"], *summary["data_errors"]]):
        n_rows = summary["rows"].get(name)
        errors = summary["data_errors"].get(name, {})
        counts = [f"{errors.get(kind, 0):,}" for kind in _SHOWN_ERRORS]
        rows.append([name, "" if n_rows is None else f"{n_rows:,}", *counts])
    headers = ["table", "rows", *(kind.replace("_", " ") for kind in _SHOWN_ERRORS)]
    console().print(make_table(f"raw tables in {out}", headers, rows))
    console().print(
        f"true values, in the catalogue's units: {out / 'truth'}",
        highlight=False,
        soft_wrap=True,
    )
