"""A stage's file where the user wants it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from flowsheet.errors import FlowsheetError


def export_file(file: Path, out: Path) -> None:
    """A copy that is there whole or not at all; an older file of that name is replaced.

    Raises:
        FlowsheetError: it cannot be written.
    """
    if out.is_dir():
        raise FlowsheetError(
            "there is a folder of that name",
            where=str(out),
            todo=f"name a file, such as {file.name}",
        )
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, part)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FlowsheetError(
            f"could not write: {error.strerror}", where=str(out), todo="name another file"
        ) from error
