"""``stage.json``: the key of a stage, the sha256 of its files, and its parts.

The parts are other stages that its files refer to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowsheet.state.json_files import read_json

METADATA_FILE = "stage.json"

PartKeys = tuple[tuple[str, str], ...]
"""Kind and key of each part."""


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a stage; empty if they cannot be read, or lack what every stage has."""
    try:
        metadata: dict[str, Any] = read_json(folder / METADATA_FILE)
        return metadata if {"key", "seconds", "sha256"} <= metadata.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def list_parts(metadata: dict[str, Any]) -> PartKeys:
    """The parts that metadata name.

    >>> list_parts({"key": "a", "parts": [["shard", "b"]]})
    (('shard', 'b'),)
    """
    return tuple((str(kind), str(key)) for kind, key in metadata.get("parts", ()))
