"""An id of a folder that does not depend on where it is mounted."""

from __future__ import annotations

import uuid
from pathlib import Path

from flowsheet.state.locks import exclusive_lock


def read_folder_id(folder: Path) -> str:
    """The id in the folder's file ``id``, which is written when it is missing."""
    file = folder / "id"
    with exclusive_lock(folder / ".id.lock"):
        if not file.is_file():
            file.write_text(uuid.uuid4().hex, encoding="utf-8")
        return file.read_text(encoding="utf-8")
