"""The keys of ``--json`` as docs/command-line.md promises them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command-line.md"
_CODE = re.compile(r"`([^`]+)`")


def documented_keys(command: str) -> set[str]:
    """The keys in the first column of the command's table."""
    rows = _table_rows(f"flowsheet {command}")
    return {key for row in rows for key in _CODE.findall(row[0])}


def documented_lists() -> dict[str, set[str]]:
    """{list of ``flowsheet ls``: its keys}."""
    lists = {}
    for names, keys, *_ in _table_rows("flowsheet ls"):
        lists |= {name: set(_CODE.findall(keys)) for name in names.split(", ")}
    return lists


def check_documented(command: str, keys: Iterable[str]) -> None:
    """Check that a command prints the documented keys, and no others."""
    assert set(keys) == documented_keys(command)


def _table_rows(heading: str) -> list[list[str]]:
    section = PAGE.read_text(encoding="utf-8").partition(f"### `{heading}`\n")[2]
    lines = section.partition("\n##")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return rows[1:]
