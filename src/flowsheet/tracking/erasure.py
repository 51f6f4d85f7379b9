"""The part of MLflow's record that an erasure of subjects changes: artifacts and tags.

Files of an artifact store on this machine are changed in place; those of a server are downloaded
and uploaded again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flowsheet.errors import FlowsheetError
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.store import as_default, connect, is_embedded, is_empty, tracking_uri

ERASED_SUBJECTS = "flowsheet.erased_subjects"
"""Tag of runs and versions: how many subjects of their records were erased since."""
ERASED_DIGESTS = "flowsheet.erased_digests"
"""Tag: the first characters of these subjects' keyed digests."""
ERASED_AT = "flowsheet.erased_at"
"""Tag: day of the last erasure."""
ERASED_FROM = "flowsheet.erased_from"
"""Tag: ``training`` if the model was trained on one of them, else ``held out``."""

_ERROR = "flowsheet.error"
_DIGEST_LENGTH = 16
_LEVELS = ("experiment", "comparison", "evaluation", "event")
_ROW_ARTIFACTS = ("evidence", "memory", "report")
"""Artifacts that may have rows of patients."""
_PAGE = 1000
_LOCK_SECONDS = 10.0
"""How long to wait for another process that writes to the database."""


@dataclass(frozen=True)
class RecordedRun:
    """A run of an experiment, a comparison or an event."""

    run_id: str
    experiment: str
    level: str
    params: Mapping[str, str]
    artifact_uri: str
    is_active: bool
    """False: deleted in MLflow's page, which keeps the files."""

    @property
    def local_folder(self) -> Path | None:
        """The folder of its artifacts, if that is on this machine."""
        parts = urlsplit(self.artifact_uri)
        if parts.scheme not in ("", "file"):
            return None
        return Path(unquote(parts.path))


def list_recorded_runs() -> list[RecordedRun]:
    """All runs that may have artifacts with rows of patients, deleted ones too."""
    if is_empty():
        return []
    return [
        RecordedRun(
            run_id=str(run.info.run_id),
            experiment=experiment,
            level=level,
            params=dict(run.data.params),
            artifact_uri=str(run.info.artifact_uri),
            is_active=run.info.lifecycle_stage == "active",
        )
        for level in _LEVELS
        for experiment, run in _search(f"tags.`flowsheet.level` = '{level}'")
    ]


@contextlib.contextmanager
def open_artifacts(run: RecordedRun) -> Iterator[Path | None]:
    """A folder with the run's artifacts that may have rows of patients; None if it has none."""
    if run.local_folder:
        yield run.local_folder if run.local_folder.is_dir() else None
        return
    client = connect()
    with tempfile.TemporaryDirectory() as temporary, as_default():
        names = {artifact.path for artifact in client.list_artifacts(run.run_id)}
        present = [name for name in _ROW_ARTIFACTS if name in names]
        for name in present:
            client.download_artifacts(run.run_id, name, temporary)
        yield Path(temporary) if present else None


def update_artifacts(
    run: RecordedRun, folder: Path, changed: Iterable[Path], removed: Iterable[Path]
) -> None:
    """Make the artifacts of a run as they are in the folder of :func:`open_artifacts`.

    Args:
        run: the run.
        folder: where its artifacts were changed.
        changed: files that were written again.
        removed: files and folders that are not there any more.
    """
    if run.local_folder:
        return
    client = connect()
    for file in changed:
        client.log_artifact(run.run_id, str(file), str(file.parent.relative_to(folder)))
    with as_default():
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(run.artifact_uri)
        for file in removed:
            repository.delete_artifacts(str(file.relative_to(folder)))


def list_versions(run_ids: Iterable[str]) -> list[ModelVersion]:
    """The registered versions of models of these experiments' runs, copies included."""
    if is_empty():
        return []
    wanted = set(run_ids)
    model_runs = {
        str(run.info.run_id)
        for _, run in _search("tags.`flowsheet.level` = 'model'")
        if run.data.tags.get("mlflow.parentRunId") in wanted
    }
    versions = [
        ModelVersion(version.name, int(version.version), str(version.run_id))
        for version in _pages("search_model_versions", "")
        if version.run_id in model_runs
    ]
    return sorted(versions, key=lambda version: (version.name, version.version))


def mark_run(run: RecordedRun, digests: Iterable[str], day: str, *, in_training: bool) -> None:
    """Tag a run with the subjects that were erased from its records.

    Args:
        run: the run; a deleted one cannot be tagged.
        digests: keyed digests of the subjects' ids.
        day: of the erasure.
        in_training: a model of the run was trained on one of them.
    """
    if not run.is_active:
        return
    client = connect()
    tags = client.get_run(run.run_id).data.tags
    for name, value in _make_tags(tags, digests, day, in_training=in_training).items():
        client.set_tag(run.run_id, name, value)


def mark_version(
    version: ModelVersion, digests: Iterable[str], day: str, *, in_training: bool
) -> None:
    """Tag a registered version like its run.

    Args:
        version: the version.
        digests: keyed digests of the subjects' ids.
        day: of the erasure.
        in_training: the model was trained on one of them.
    """
    client = connect()
    tags = client.get_model_version(version.name, str(version.version)).tags
    for name, value in _make_tags(tags, digests, day, in_training=in_training).items():
        client.set_model_version_tag(version.name, str(version.version), name, value)


def redact_messages(redact: Callable[[str], str]) -> None:
    """Change the messages of failed runs; of an embedded store, those of deleted runs too."""
    if is_empty():
        return
    client = connect()
    for _, run in _search(f"tags.`{_ERROR}` != ''"):
        message = run.data.tags[_ERROR]
        if run.info.lifecycle_stage == "active" and redact(message) != message:
            client.set_tag(run.info.run_id, _ERROR, redact(message))
    if is_embedded():
        _redact_deleted(redact)


def _redact_deleted(redact: Callable[[str], str]) -> None:
    """Change the messages of runs that MLflow does not let be changed, and clear freed pages.

    Raises:
        FlowsheetError: another process uses the database.
    """
    database = tracking_uri().removeprefix("sqlite:///")
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=_LOCK_SECONDS)) as file:
            file.create_function("redact", 1, redact, deterministic=True)
            file.execute(
                "UPDATE tags SET value = redact(value) WHERE key = ? AND value IS NOT NULL",
                [_ERROR],
            )
            file.commit()
            file.execute("VACUUM")
    except sqlite3.Error as error:
        raise FlowsheetError(
            f"the messages of deleted runs cannot be changed: {error}",
            where=database,
            todo="stop what uses the database, then complete it: `flowsheet erase`",
        ) from error


def _make_tags(
    tags: Mapping[str, str], digests: Iterable[str], day: str, *, in_training: bool
) -> dict[str, str]:
    """The tags after one more erasure; the same again for one that is repeated."""
    known = set(tags.get(ERASED_DIGESTS, "").split())
    all_digests = sorted(known | {digest[:_DIGEST_LENGTH] for digest in digests})
    was_in_training = tags.get(ERASED_FROM) == "training"
    return {
        ERASED_SUBJECTS: str(len(all_digests)),
        ERASED_DIGESTS: " ".join(all_digests),
        ERASED_AT: day,
        ERASED_FROM: "training" if in_training or was_in_training else "held out",
    }


def _search(query: str) -> Iterator[tuple[str, Any]]:
    """(experiment, run) of all runs that a query finds, in deleted experiments too."""
    from mlflow.entities import ViewType

    experiments = _pages("search_experiments", view_type=ViewType.ALL)
    names = {experiment.experiment_id: str(experiment.name) for experiment in experiments}
    runs = _pages("search_runs", list(names), query, run_view_type=ViewType.ALL)
    for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id)):
        yield names[run.info.experiment_id], run


def _pages(method: str, *arguments: Any, **keywords: Any) -> list[Any]:
    """All results of a search, which MLflow returns page by page."""
    search = getattr(connect(), method)
    page = search(*arguments, **keywords, max_results=_PAGE)
    results = list(page)
    while page.token:
        page = search(*arguments, **keywords, max_results=_PAGE, page_token=page.token)
        results += page
    return results
