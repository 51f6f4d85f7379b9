"""Copy a stage's file to a path or an object that the user chose."""

from __future__ import annotations

import shutil
from pathlib import Path

from flowsheet.errors import FlowsheetError
from flowsheet.state.locations import Location
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.publish import publish_file


def export_file(file: Path, out: Location) -> None:
    """Copy ``file`` to ``out`` atomically; an older file of that name is replaced.

    Raises:
        FlowsheetError: the copy cannot be written.
    """
    if isinstance(out, RemoteFolder):
        if not out.prefix:
            raise FlowsheetError(
                "the output path is a bucket",
                where=out.url,
                todo=f"choose a name in it, such as {out / file.name}",
            )
        out.parent.upload(file, out.name)
        return
    if out.is_dir():
        raise FlowsheetError(
            "the output path is a folder",
            where=str(out),
            todo=f"choose a file name, such as {out / file.name}",
        )
    with publish_file(out) as partial:
        shutil.copyfile(file, partial)
