"""The places where records of subjects are kept, and how they are removed from each.

Extracts and held-out predictions are written again without them: an extract may be all that is left
of its records, and predictions could only be made again by training. Everything else in the store
is deleted, because it is built again when it is needed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from flowsheet.cohort import erasure
from flowsheet.cohort.remote_extracts import download_extract, upload_extract
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.lifecycle.erasure.messages import mentions
from flowsheet.lifecycle.erasure.tables import Ids, count_rows, find_ids, remove_rows
from flowsheet.lifecycle.experiment.stage import replace_stage
from flowsheet.lifecycle.experiment.train import INPUTS
from flowsheet.serving.answer_files import iter_own_files, list_answer_folders
from flowsheet.state.home import home
from flowsheet.state.json_files import read_json
from flowsheet.state.locations import Location, parse_location
from flowsheet.state.publish import publish, sweep_parts
from flowsheet.state.shared_stages import delete_shared_stage, share_stage
from flowsheet.state.stage_metadata import list_parts, read_metadata
from flowsheet.state.store import Store
from flowsheet.tracking.erasure import RecordedRun, open_artifacts, update_artifacts

Kind = Literal["extract", "own extract", "rows", "artifacts", "file", "folder"]
_WITH_PREDICTIONS = ("evidence", "comparison")
"""Kinds of stages whose rows cannot be made again without training."""


class Place(FrozenModel):
    """One place with records of the subjects."""

    kind: Kind
    """How they are removed: ``file`` and ``folder`` are deleted, the others written again."""
    name: str
    """For people, such as ``windows 932340fb3e66812a``."""
    path: str
    """Of the file or folder; of ``artifacts``, id of the run."""
    rows: int
    in_store: bool = False
    """Whether a run could use it, so that none may start before it is erased."""

    @property
    def group(self) -> str:
        """What the place holds: the first word of its name."""
        return self.name.split()[0]

    @property
    def treatment(self) -> str:
        """What happens to the place."""
        return "deleted" if self.kind in ("file", "folder") else "written again"


def list_stores() -> list[Store]:
    """The store in use, and the one in the state folder if that is another one."""
    in_use, own = Store.open(), Store(home() / "store")
    stores = [in_use] if in_use.root == own.root else [in_use, own]
    return [store for store in stores if store.root.is_dir()]


def search_ids(stores: Iterable[Store], folders: Iterable[Path], ids: Ids) -> Ids:
    """Which of these subjects the stores and further extracts have, and which stays of theirs."""
    stages = [
        stage
        for store in stores
        for kind in sorted(store.root.iterdir())
        if kind.is_dir() and not kind.name.startswith(".")
        for stage in _list_stages(store, kind.name)
    ]
    subjects: set[int] = set()
    stays: set[int] = set()
    for folder in (*stages, *folders):
        with contextlib.suppress(OSError, ValueError, pl.exceptions.PolarsError):
            found = find_ids(folder, ids)
            subjects |= found.subjects
            stays |= found.stays
    return Ids(frozenset(subjects), frozenset(stays))


def find_extracts(stores: Iterable[Store], folders: Mapping[str, Path], ids: Ids) -> list[Place]:
    """Extracts in the store, and elsewhere, that have the subjects.

    Args:
        stores: the stores.
        folders: further extracts, or copies of them, by where they are.
        ids: the subjects.
    """
    places = []
    for store in stores:
        for stage in _list_stages(store, "extract"):
            if rows := _count_extract(stage / "extract", ids):
                name = f"extract {stage.name}"
                places.append(_place("extract", name, stage, rows, in_store=True))
    for location, folder in folders.items():
        if rows := _count_extract(folder, ids):
            name = f"extract {location}"
            places.append(Place(kind="own extract", name=name, path=location, rows=rows))
    return places


def find_stages(stores: Iterable[Store], ids: Ids) -> list[Place]:
    """Stages that have the subjects' rows, except extracts and models.

    Windows of other subjects that refer to a shard with the subjects' rows are places without any.
    """
    places: list[Place] = []
    for store in stores:
        for kind in sorted(path.name for path in store.root.iterdir() if path.is_dir()):
            if kind.startswith(".") or kind in ("extract", "model"):
                continue
            for stage in _list_stages(store, kind):
                has_predictions = kind in _WITH_PREDICTIONS
                rows = _count_stage(stage, ids, may_be_damaged=not has_predictions)
                rows += len(_find_reports(stage, ids)) if kind == "report" else 0
                if rows:
                    what: Kind = "rows" if has_predictions else "folder"
                    places.append(_place(what, f"{kind} {stage.name}", stage, rows, in_store=True))
        places += list(_find_referring_stages(store, [Path(place.path) for place in places]))
    return places


def _find_referring_stages(store: Store, found: Collection[Path]) -> Iterator[Place]:
    """Windows that are not found themselves, but of which a part is."""
    for windows in _list_stages(store, "windows"):
        parts = [store.path(*part) for part in list_parts(read_metadata(windows))]
        if windows not in found and not set(parts).isdisjoint(found):
            yield _place("folder", f"windows {windows.name}", windows, rows=0, in_store=True)


def find_models(stores: Iterable[Store], windows: Iterable[str]) -> list[Place]:
    """Trained models and unfinished searches on these windows (the first letters of their keys)."""
    keys = {key[:16] for key in windows}
    places = []
    for store in stores:
        searches = sorted((store.root / ".work").glob("model-*"))
        for folder in [*_list_stages(store, "model"), *searches]:
            inputs = folder / INPUTS
            if not keys or (inputs.is_file() and read_json(inputs)["windows"][:16] not in keys):
                continue
            name = f"model {folder.name.removeprefix('model-')}"
            places.append(_place("folder", name, folder, rows=0, in_store=True))
    return places


def find_other_files(ids: Ids) -> list[Place]:
    """Kept answers, what killed processes left, copies of reports, and the last traceback."""
    places = list(_find_answers(ids))
    for name in ("reruns", "spill"):
        folder = home() / name
        if folder.is_dir() and any(folder.iterdir()):
            places.append(_place("folder", f"leftovers {name}", folder, rows=0))
    for file in sorted((home() / "reports").glob("*.html")):
        if mentions(file, ids):
            places.append(_place("file", f"report {file.name}", file, rows=1))
    log = home() / "logs" / "error.log"
    if log.is_file() and mentions(log, ids):
        places.append(_place("file", f"log {log.name}", log, rows=1))
    return places


def _find_answers(ids: Ids) -> Iterator[Place]:
    """Files of answers that servers kept, and of an earlier release's shadow scores.

    Raises:
        CheckFailed: a folder of answers is not there, or a file cannot be searched.
    """
    shadow = home() / "serving" / "shadow"
    for folder in (shadow, *list_answer_folders()):
        for subfolder in {file.parent for file in folder.rglob(".*.part")}:
            sweep_parts(subfolder)
        files = shadow.rglob("*.parquet") if folder == shadow else iter_own_files(folder)
        for file in sorted(files):
            if rows := _count_kept(file, ids):
                yield _place("rows", f"answers {file.relative_to(folder)}", file, rows)


def find_artifacts(run: RecordedRun, ids: Ids) -> list[Place]:
    """The artifacts of a run, if they have rows of the subjects."""
    with open_artifacts(run) as folder:
        rows = count_rows(folder, ids) + len(_find_reports(folder, ids)) if folder else 0
    name = f"artifacts of run {run.run_id}, {run.experiment}"
    return [Place(kind="artifacts", name=name, path=run.run_id, rows=rows)] if rows else []


def erase_place(place: Place, ids: Ids, runs: dict[str, RecordedRun]) -> None:
    """Remove the subjects from a place; interrupted, it may be called again.

    Raises:
        FlowsheetError, OSError: it cannot be written or deleted.
    """
    path = Path(place.path)
    if place.kind == "extract" and path.is_dir():
        replace_stage(path, lambda old, new: _write_extract(old / "extract", new / "extract", ids))
    elif place.kind == "own extract":
        _rewrite_extract(parse_location(place.path), ids)
    elif place.kind == "rows":
        remove_rows(path, ids)
    elif place.kind == "artifacts" and place.path in runs:
        _erase_artifacts(runs[place.path], ids)
    elif place.kind == "folder" and path.is_dir():
        shutil.rmtree(path)
    elif place.kind == "file":
        path.unlink(missing_ok=True)
    if place.in_store:
        _update_shared(path)


def _update_shared(path: Path) -> None:
    """Let other machines have what became of a stage."""
    store = Store.open()
    if store.remote is None or not path.is_relative_to(store.root):
        return
    kind, key = path.relative_to(store.root).parts[:2]
    if path.is_dir():
        share_stage(store, kind, key, replace=True)
    elif not kind.startswith("."):
        delete_shared_stage(store, kind, key)


def _place(kind: Kind, name: str, path: Path, rows: int, *, in_store: bool = False) -> Place:
    return Place(kind=kind, name=name, path=str(path), rows=rows, in_store=in_store)


def _list_stages(store: Store, kind: str) -> Iterator[Path]:
    folder = store.root / kind
    sweep_parts(folder)
    if folder.is_dir():
        yield from sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


def _count_extract(folder: Path, ids: Ids) -> int:
    try:
        return erasure.count_rows(folder, ids.subjects, ids.stays)
    except (OSError, FlowsheetError) as error:
        raise CheckFailed(
            "an extract cannot be searched for the subjects",
            where=str(folder),
            todo="delete it if the records that it was made from are there; then start again",
        ) from error


def _count_stage(stage: Path, ids: Ids, *, may_be_damaged: bool) -> int:
    """Rows of a stage; one that cannot be read and can be built again counts as one row."""
    try:
        return _count_kept(stage, ids)
    except CheckFailed:
        if may_be_damaged:
            return 1
        raise


def _count_kept(path: Path, ids: Ids) -> int:
    try:
        return count_rows(path, ids)
    except Exception as error:  # whatever a reader of damaged bytes raises
        raise CheckFailed(
            "predictions cannot be searched for the subjects",
            where=str(path),
            todo="restore or delete them, then start again",
        ) from error


def _write_extract(old: Path, new: Path, ids: Ids) -> None:
    new.mkdir()
    erasure.write_without(old, new, ids.subjects, ids.stays)


def _rewrite_extract(location: Location, ids: Ids) -> None:
    if isinstance(location, Path):
        with publish(location) as folder:
            erasure.write_without(location, folder, ids.subjects, ids.stays)
        return
    with tempfile.TemporaryDirectory(dir=home()) as temporary:
        old, new = Path(temporary) / "old", Path(temporary) / "new"
        old.mkdir()
        new.mkdir()
        download_extract(location, old)
        erasure.write_without(old, new, ids.subjects, ids.stays)
        upload_extract(new, location)


def _erase_artifacts(run: RecordedRun, ids: Ids) -> None:
    with open_artifacts(run) as folder:
        if folder is None:
            return
        files = set(folder.rglob("*"))
        for report in _find_reports(folder, ids):
            report.unlink()
        changed = [file for file in remove_rows(folder, ids) if file.exists()]
        removed = sorted(f for f in files if f.parent.exists() and not f.exists())
        update_artifacts(run, folder, changed, removed)


def _find_reports(folder: Path, ids: Ids) -> list[Path]:
    """Reports in a stage or a run's artifacts that show one of the stays."""
    files = sorted([*folder.glob("*.html"), *folder.glob("report/*.html")])
    return [file for file in files if mentions(file, ids)]
