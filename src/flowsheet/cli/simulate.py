"""The simulated ward written as the raw tables of a database, for rehearsals at any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowsheet.cli.console import console, make_table
from flowsheet.cohort.ingest import make_source
from flowsheet.config import CohortConfig, validate_config
from flowsheet.errors import FlowsheetError, UsageError


def check_overwritable(out: Path, mark: str, what: str) -> None:
    """Refuse to write over anything but an older ``what``, which the file ``mark`` tells.

    Raises:
        FlowsheetError: something else is there.
    """
    if out.exists() and not (out / mark).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise FlowsheetError(
            "there is something else already",
            where=str(out),
            todo=f"name a new folder, or {what} to replace",
        )


def write_raw_tables(
    out: Path, config: CohortConfig, overrides: Sequence[str], say: Callable[[str], None]
) -> None:
    """Write the ward of ``config`` as MIMIC-III's raw tables and print what they hold; overrides as
    ``raw.KEY=VALUE``.

    Raises:
        UsageError: the cohort is no simulated ward, or an override is wrong.
    """
    from flowsheet.cohort.sources.simulated import SimulatedWard
    from flowsheet.mimic_export.options import ExportOptions
    from flowsheet.mimic_export.write import write_mimic3

    ward = make_source(config)
    if not isinstance(ward, SimulatedWard):
        raise UsageError(
            f"the cohort {config.name!r} is no simulated ward", todo="name one with --cohort"
        )
    options = validate_config(ExportOptions, _parsed(overrides), "the raw tables", prefix=("raw",))
    _show(write_mimic3(ward.options, options, out, say), out)


def _parsed(overrides: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        values = OmegaConf.to_container(
            OmegaConf.from_dotlist([o.removeprefix("raw.") for o in overrides])
        )
    except (YAMLError, ValueError) as error:
        raise UsageError(
            "an override cannot be read", where=" ".join(overrides), todo=str(error)
        ) from error
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _show(written: dict[str, Any], out: Path) -> None:
    kinds = (
        "duplicates",
        "text_values",
        "out_of_range",
        "flagged_errors",
        "missing_ids",
        "rewritten",
    )
    rows = [
        [name, f"{n:,}", *(f"{written['dirt'].get(name, {}).get(kind, 0):,}" for kind in kinds)]
        for name, n in written["rows"].items()
    ]
    console().print(
        make_table(
            f"raw tables in {out}",
            ["table", "rows", *(kind.replace("_", " ") for kind in kinds)],
            rows,
        )
    )
    console().print(
        f"what was written, in the catalogue's units: {out / 'truth'}",
        highlight=False,
        soft_wrap=True,
    )
