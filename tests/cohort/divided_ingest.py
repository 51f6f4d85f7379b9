"""Ingest records in one process, and as if in several, and compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flowsheet.cohort.divided import BuildGroups, ParsedGroups
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.config import CohortConfig
from flowsheet.lifecycle.experiment.ingest_groups import build_group


def build_elsewhere(cohort: CohortConfig, groups: Callable[[int], bool]) -> BuildGroups:
    """Build some groups as a worker does that has no raw records."""

    def build(parsed: ParsedGroups) -> None:
        parsed.save()
        without_records = cohort.model_copy(update={"path": "/nowhere"})
        for group in filter(groups, reversed(range(parsed.n_groups))):
            build_group(without_records, parsed.folder, group)

    return build


def read_files(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def ingest_both(
    cohort: CohortConfig, folder: Path, groups: Callable[[int], bool] = lambda group: True
) -> dict[str, bytes]:
    """The files of the extract, which are the same of one process and of several."""
    contents = []
    for name, build in (("one", None), ("several", build_elsewhere(cohort, groups))):
        lines: list[str] = []
        ingest(make_source(cohort), cohort, folder / name, lines.append, build)
        contents.append((read_files(folder / name), lines))
    (one, lines), (several, other_lines) = contents
    assert one == several
    assert lines == other_lines
    return one
