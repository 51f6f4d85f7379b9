"""The searches for the parameters of models that the store has, finished or not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from flowsheet.state.json_files import read_json
from flowsheet.state.store import Store
from flowsheet.timestamps import format_local_minute

_STAGE_FILE = "stage.json"


def list_studies() -> tuple[list[str], list[list[object]]]:
    """Header and rows of a table, the latest first: one row for each model in one fold."""
    header = ["study", "model", "state", "trials", "best", "minutes", "time"]
    root = Store.open().root
    finished = [file.parent for file in (root / "model").glob(f"*/{_STAGE_FILE}")]
    unfinished = list((root / ".work").glob("model-*"))
    rows = [_finished_row(folder) for folder in finished] + [
        [folder.name.removeprefix("model-"), "", "unfinished", None, None, None, _modified(folder)]
        for folder in unfinished
        if not (root / "model" / folder.name.removeprefix("model-")).is_dir()
    ]
    return header, sorted(rows, key=lambda row: (str(row[-1]), str(row[0])), reverse=True)


def _finished_row(folder: Path) -> list[object]:
    tuning = read_json(folder / "tuning.json")
    return [
        folder.name,
        str(read_json(folder / "model_package" / "package.json")["kind"]),
        "finished",
        len(tuning["trials"]),
        tuning["value"],
        round(read_json(folder / _STAGE_FILE)["seconds"] / 60, 2),
        _modified(folder / _STAGE_FILE),
    ]


def _modified(path: Path) -> str:
    return format_local_minute(datetime.fromtimestamp(path.stat().st_mtime, UTC))
