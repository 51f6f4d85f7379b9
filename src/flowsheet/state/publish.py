"""Write folders atomically."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from flowsheet.errors import FlowsheetError
from flowsheet.state.home import PRIVATE


@contextlib.contextmanager
def publish(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends without error.

    An existing ``target`` is replaced only then. After an error the temporary folder is removed.

    Raises:
        FlowsheetError: the disk is full or not writable.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.mkdir(mode=PRIVATE, parents=True)
        yield temporary
        old = target.with_name(f"{temporary.name}.old")
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise FlowsheetError(  # numpy's short writes carry no errno
            f"could not write: {error.strerror or error}",
            where=str(target),
            todo="free disk space or choose another folder",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
