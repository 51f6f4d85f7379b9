"""Copy a stage's file to a path that the user chose."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from flowsheet.errors import FlowsheetError


def export_file(file: Path, out: Path) -> None:
    """Copy ``file`` to ``out`` atomically; an older file of that name is replaced.

    Raises:
        FlowsheetError: the copy cannot be written.
    """
    if out.is_dir():
        raise FlowsheetError(
            "the output path is a folder",
            where=str(out),
            todo=f"choose a file name, such as {out / file.name}",
        )
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(mode=0o600)
        shutil.copyfile(file, partial)
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FlowsheetError(
            f"could not write: {error.strerror}", where=str(out), todo="choose another file"
        ) from error
