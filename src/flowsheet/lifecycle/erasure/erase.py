"""Erase subjects: find every place, remove them there, mark what was trained on them, log it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flowsheet.cohort import erasure
from flowsheet.cohort.extract import read_manifest
from flowsheet.cohort.remote_extracts import local_extract
from flowsheet.config import FrozenModel
from flowsheet.environment import user_name
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError
from flowsheet.lifecycle.erasure import places as finder
from flowsheet.lifecycle.erasure.messages import (
    mask_ids,
    mentions,
    redact_database,
    redact_log,
)
from flowsheet.lifecycle.erasure.places import Place
from flowsheet.lifecycle.erasure.request import ErasureRequest, MarkedRun, load_pending
from flowsheet.lifecycle.erasure.tables import Ids, are_held_out, find_ids
from flowsheet.serving.answer_files import iter_own_files, list_answer_folders
from flowsheet.state.erasures import ErasedIds, exclude_others, pending_file
from flowsheet.state.home import home
from flowsheet.state.locations import Location
from flowsheet.state.shared_stages import fetch_all_stages
from flowsheet.state.sqlite_files import SQLITE_SUFFIXES
from flowsheet.state.store import Store
from flowsheet.tracking import erasure as records
from flowsheet.tracking.decisions import Decision, record_erasure
from flowsheet.tracking.erasure import RecordedRun
from flowsheet.tracking.model_registry import ModelVersion, promotion_lock
from flowsheet.tracking.schema_migration import BEFORE_UPGRADE
from flowsheet.typing import Progress


class AffectedModel(FrozenModel):
    """A run or a registered version whose records had one of the subjects."""

    name: str
    in_training: bool
    """Trained on one of them; otherwise only evaluated on them."""


class ErasureResult(FrozenModel):
    """What was erased, or what would be."""

    subjects: int
    places: tuple[Place, ...]
    models: tuple[AffectedModel, ...]
    digests: tuple[str, ...] = ()
    """Keyed digests of the subjects' ids, as in the log."""
    decision: Decision | None = None
    """The entry in the log; None if nothing was erased."""


def erase(
    subjects: Sequence[int],
    locations: Sequence[Location] = (),
    *,
    actor: str = "",
    reason: str,
    dry_run: bool = False,
    progress: Progress,
) -> ErasureResult:
    """Erase subjects from the state folder, its MLflow store and further extracts.

    An erasure that was interrupted is completed, together with these subjects.

    Args:
        subjects: ids of the subjects; none to complete an interrupted erasure.
        locations: further extracts, outside the state folder.
        actor: who asks for it; by default the user of this process.
        reason: why, for the log.
        dry_run: only say what would be erased.
        progress: receives a line for each place.

    Raises:
        UsageError: a subject is in no place, or a folder is no extract.
        CheckFailed: another process uses the records, or a place cannot be searched or erased.
    """
    folders = {str(location): _find_extract(location) for location in locations}
    with exclude_others():
        request = _plan(subjects, folders)
        runs = {run.run_id: run for run in records.list_recorded_runs()}
        versions = list(_list_affected(request, runs))
        result = ErasureResult(
            subjects=len(request.subjects),
            places=request.places,
            models=tuple(model for model, _, _ in versions),
        )
        if dry_run:
            return result
        request = request.model_copy(
            update={"actor": request.actor or actor or user_name(), "reason": reason}
        )
        request.save()
        return _execute(request, result, versions, runs, progress)


def _execute(
    request: ErasureRequest,
    result: ErasureResult,
    affected: Sequence[tuple[AffectedModel, RecordedRun, ModelVersion | None]],
    runs: dict[str, RecordedRun],
    progress: Progress,
) -> ErasureResult:
    # first of all, so that no later ingest, and no running server, brings them back
    erased_ids = ErasedIds.load().add(request.subjects, request.stays)
    digests = [erased_ids.digest("subject", subject) for subject in request.subjects]
    failures = []
    for place in request.places:
        try:
            finder.erase_place(place, request.ids, runs)
        except (OSError, FlowsheetError) as error:
            failures.append(f"{place.name}: {_reason(error)}")
            continue
        request = request.without(place)
        request.save()
        progress(f"{place.treatment}: {place.name}")
    _mark(affected, digests)
    records.redact_messages(lambda text: mask_ids(text, request.ids))
    _redact_messages(request.ids)
    failures += _find_mentions(request.ids)
    if failures:
        raise CheckFailed(
            "\n".join(["the subjects could not be erased everywhere:", *failures]),
            where=str(home()),
            todo="stop servers that use these places, make them writable, or delete them if they "
            "are damaged or backups; then complete it: `flowsheet erase`",
        )
    with promotion_lock():
        decision = record_erasure(
            request.id, digests, request.erased, actor=request.actor, reason=request.reason
        )
    pending_file().unlink()
    return result.model_copy(update={"decision": decision, "digests": tuple(digests)})


def _plan(subjects: Sequence[int], folders: Mapping[str, Path]) -> ErasureRequest:
    """What is to be done for these subjects, and is left to do of an interrupted erasure."""
    pending = load_pending()
    if not subjects and pending is None:
        raise UsageError("no subject is named", todo="name one: flowsheet erase SUBJECT")
    wanted = ErasureRequest(subjects=tuple(sorted(set(subjects))))
    request = pending.join(wanted) if pending else wanted
    stores = finder.list_stores()
    for store in stores:
        fetch_all_stages(store)
    runs = records.list_recorded_runs()
    found = _search(request.ids, stores, [*folders.values()], runs)
    request = request.join(ErasureRequest(stays=tuple(sorted(found.stays))))
    _check_known(subjects, found, pending, [*_extracts(stores), *folders.values()])
    return request.join(_find_places(request.ids, stores, folders, runs))


def _search(
    ids: Ids, stores: Sequence[Store], folders: Sequence[Path], runs: Sequence[RecordedRun]
) -> Ids:
    """The subjects that are somewhere, and their stays."""
    answers = [file for folder in list_answer_folders() for file in iter_own_files(folder)]
    found = finder.search_ids(stores, [*folders, *answers], ids)
    subjects, stays = set(found.subjects), set(found.stays)
    for run in runs:
        with records.open_artifacts(run) as folder:
            if folder:
                in_run = find_ids(folder, ids)
                subjects |= in_run.subjects
                stays |= in_run.stays
    return Ids(frozenset(subjects), frozenset(stays))


def _find_places(
    ids: Ids, stores: Sequence[Store], folders: Mapping[str, Path], runs: Sequence[RecordedRun]
) -> ErasureRequest:
    """Every place, in the order in which it is erased, and the runs that used the subjects."""
    extracts = finder.find_extracts(stores, folders, ids)
    stages = finder.find_stages(stores, ids)
    windows = [Path(place.path).name for place in stages if place.group == "windows" and place.rows]
    models = finder.find_models(stores, windows)
    artifacts = [place for run in runs for place in finder.find_artifacts(run, ids)]
    other = finder.find_other_files(ids)
    sources = _identify_records(extracts, folders)
    marked = []
    for run in runs:
        has_rows = any(place.path == run.run_id for place in artifacts)
        if run.level == "evaluation":
            if has_rows:
                marked.append(MarkedRun(run_id=run.run_id, in_training=False))
            continue
        uses_records = (
            run.params.get("fingerprint.windows", "")[:16] in windows
            or not sources.isdisjoint(run.params.values())
            or has_rows
        )
        if uses_records and run.level != "event":
            with records.open_artifacts(run) as folder:
                in_training = folder is None or not are_held_out(folder, ids)
            marked.append(MarkedRun(run_id=run.run_id, in_training=in_training))
    # extracts last: from them an interrupted erasure that is repeated finds the stays again
    places = (*artifacts, *other, *models, *stages, *extracts)
    return ErasureRequest(places=places, runs=tuple(marked))


def _list_affected(
    request: ErasureRequest, runs: dict[str, RecordedRun]
) -> Iterator[tuple[AffectedModel, RecordedRun, ModelVersion | None]]:
    """The runs that used the subjects, each followed by the versions of its models."""
    for marked in request.runs:
        run = runs.get(marked.run_id)
        if run is None:
            continue
        name = f"run {run.run_id}, {run.experiment}"
        yield AffectedModel(name=name, in_training=marked.in_training), run, None
        for version in records.list_versions([run.run_id]):
            model = AffectedModel(name=version.reference, in_training=marked.in_training)
            yield model, run, version


def _mark(
    affected: Iterable[tuple[AffectedModel, RecordedRun, ModelVersion | None]],
    digests: Sequence[str],
) -> None:
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    for model, run, version in affected:
        if version is None:
            records.mark_run(run, digests, day, in_training=model.in_training)
        else:
            records.mark_version(version, digests, day, in_training=model.in_training)


def _find_extract(location: Location) -> Path:
    """The folder of an extract, or of its copy in the store, which the erasure deletes."""
    try:
        folder = local_extract(location)
        read_manifest(folder)
    except CheckFailed as error:
        raise UsageError(error.what, where=str(location), todo=error.todo) from error
    return folder


def _check_known(
    subjects: Sequence[int],
    found: Ids,
    pending: ErasureRequest | None,
    extracts: Sequence[Path],
) -> None:
    """Refuse subjects that are nowhere: the id is probably mistyped."""
    known = set(found.subjects) | set(pending.subjects if pending else ())
    for subject in subjects:
        if subject in known or _is_quarantined(subject, extracts):
            continue
        day = ErasedIds.load().find_day("subject", subject)
        todo = "check the id; extracts elsewhere are searched with --in FOLDER"
        what = f"subject {subject} is in no place"
        if day:
            what = f"{what}: it was erased on {day}"
        raise UsageError(what, where=str(home()), todo=todo)


def _is_quarantined(subject: int, extracts: Iterable[Path]) -> bool:
    for extract in extracts:
        with contextlib.suppress(OSError, FlowsheetError):
            if erasure.count_rows(extract, [subject], []):
                return True
    return False


def _extracts(stores: Iterable[Store]) -> Iterator[Path]:
    for store in stores:
        yield from sorted((store.root / "extract").glob("[!.]*/extract"))


def _identify_records(extracts: Iterable[Place], folders: Mapping[str, Path]) -> set[str]:
    """Fingerprints of extracts, and of the records that they were made from.

    An extract that was erased from before has another fingerprint than the runs that used it.
    """
    fingerprints = set()
    for place in extracts:
        is_stage = place.kind == "extract"
        folder = Path(place.path) / "extract" if is_stage else folders[place.path]
        manifest = read_manifest(folder)
        fingerprints |= {manifest.fingerprint, manifest.source.input}
    return fingerprints - {""}


def _redact_messages(ids: Ids) -> None:
    """Mask the ids in the embedded servers' logs and databases, copies of these included.

    A file that cannot be changed now is found again by :func:`_find_mentions`.
    """
    for file in _list_databases():
        parts = (file, file.with_name(f"{file.name}-wal"))
        if any(part.is_file() and mentions(part, ids) for part in parts):
            with contextlib.suppress(sqlite3.Error):
                redact_database(file, ids)
    for log in sorted(home().glob("prefect/*.log")):
        if mentions(log, ids):
            with contextlib.suppress(OSError):
                redact_log(log, ids)


def _list_databases() -> list[Path]:
    """Prefect's databases, and MLflow's as they were before an upgrade.

    The one that MLflow uses is changed through MLflow (``tracking.erasure``).
    """
    patterns = ("prefect/*.db*", f"mlflow/*{BEFORE_UPGRADE}*")
    files = [file for pattern in patterns for file in home().glob(pattern)]
    return sorted(file for file in files if not file.name.endswith(SQLITE_SUFFIXES))


def _find_mentions(ids: Ids) -> Iterator[str]:
    """Logs and databases with a sentence about one of them, such as an error that was recorded."""
    for pattern in ("prefect/*.log", "prefect/*.db*", "mlflow/*.db*"):
        for file in sorted(home().glob(pattern)):
            if mentions(file, ids):
                yield f"{file.relative_to(home())}: an error message names a subject or a stay"


def _reason(error: Exception) -> str:
    if isinstance(error, FlowsheetError):
        return error.what
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
