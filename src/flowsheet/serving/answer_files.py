"""Files of kept answers: ``FOLDER/MODEL/DAY/WORKER-FIRST-LAST.parquet``.

Every write is a whole file, which gets its name only when it is complete: a killed server leaves no
broken one. Its worker merges its small files of a day from time to time. FIRST and LAST are the
numbers of the writes that a file holds; a worker that is killed between the merge and the removal
of what was merged leaves files whose numbers lie within those of another, which no reader counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.state.home import PRIVATE, home, home_path
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locations import local_path
from flowsheet.state.locks import exclusive_lock
from flowsheet.state.publish import publish_file, sweep_parts

ANSWERS: dict[str, pl.DataType] = {
    "answered_at": pl.Datetime("us", "UTC"),
    "request_id": pl.String(),
    "model": pl.String(),
    "version": pl.Int64(),
    "is_shadow": pl.Boolean(),  # scored in the shadow, not answered
    "stay_id": pl.Int64(),
    "subject_id": pl.Int64(),  # null: not sent, or not kept
    "time": TIME,  # time of the prediction
    "step": pl.Int32(),
    "risk": pl.Float64(),
    "alert": pl.Boolean(),  # null where the model has no threshold
    "threshold": pl.Float64(),
}
"""Columns of the files."""

_NAME = re.compile(r"(?P<worker>[0-9a-f]{12})-(?P<first>\d{8})-(?P<last>\d{8})\.parquet")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_ATTEMPTS = 5
"""How often a reader lists the files again that a server merges meanwhile."""
_MERGED_FILES = 32
_MERGED_ROWS = 100_000
"""A file with as many rows is not merged any more."""


@dataclass(frozen=True)
class _OwnFile:
    """A file that this worker has written, and may merge."""

    path: Path
    first: int
    last: int
    rows: int


class AnswerWriter:
    """Writes one server process's answers of one model."""

    def __init__(self, folder: Path, model: str) -> None:
        """Prepare ``folder``, which other servers may write to as well.

        Raises:
            UsageError: it cannot be written to.
        """
        self._folder = folder / model
        self._worker = uuid.uuid4().hex[:12]
        self._number = 0
        self._day_folder: Path | None = None
        self._small: list[_OwnFile] = []
        """Consecutive small files of the day."""
        self._to_merge: list[list[_OwnFile]] = []
        """Lists of small files that get no more."""
        _prepare(folder, self._folder)

    def write(self, day: date, rows: pl.DataFrame) -> None:
        """Write the answers of a day, with the columns ``ANSWERS``, to a further file.

        Raises:
            FlowsheetError: the disk is full or not writable.
        """
        self._open_day(self._folder / f"{day:%Y-%m-%d}")
        self._number += 1
        file = self._publish(rows, self._number, self._number)
        is_large = file.rows >= _MERGED_ROWS
        if not is_large:
            self._small.append(file)
        if is_large or len(self._small) >= _MERGED_FILES:
            self._finish_small()

    def merge(self, *, is_last: bool = False) -> None:
        """Merge small files where there are many, or, ``is_last``, all that can be merged.

        Raises:
            FlowsheetError: the disk is full or not writable; the files stay as they are.
        """
        if is_last:
            self._finish_small()
        while self._to_merge:
            self._merge(self._to_merge.pop())

    def _open_day(self, folder: Path) -> None:
        if folder != self._day_folder:
            self._finish_small()
            sweep_parts(folder)
            self._day_folder = folder

    def _finish_small(self) -> None:
        if len(self._small) > 1:
            self._to_merge.append(self._small)
        self._small = []

    def _merge(self, files: list[_OwnFile]) -> None:
        files = [file for file in files if file.path.is_file()]
        if len(files) < 2:
            return
        rows = pl.concat([pl.read_parquet(file.path, glob=False) for file in files])
        first, last = files[0], files[-1]
        merged = self._publish(rows, first.first, last.last, first.path.parent)
        for file in files:
            file.path.unlink(missing_ok=True)
        is_open = not self._small and merged.path.parent == self._day_folder
        if is_open and last.last == self._number and merged.rows < _MERGED_ROWS:
            self._small = [merged]

    def _publish(
        self, rows: pl.DataFrame, first: int, last: int, folder: Path | None = None
    ) -> _OwnFile:
        """Write a file under its final name.

        Args:
            rows: its answers.
            first: number of its first write.
            last: number of its last write.
            folder: of its day, by default the present one.
        """
        folder = folder or self._day_folder
        assert folder is not None
        path = folder / f"{self._worker}-{first:08}-{last:08}.parquet"
        with publish_file(path) as part:
            rows.write_parquet(part)
            with part.open("rb") as written:
                os.fsync(written.fileno())  # so that not even a power failure leaves half a file
        return _OwnFile(path, first, last, rows.height)


def list_answer_files(folder: Path) -> list[Path]:
    """The files below a folder that count: none whose answers are in another one."""
    if folder.is_file():
        return [folder]
    files = sorted(file for file in folder.rglob("*.parquet") if not file.name.startswith("."))
    merged = set(_find_merged(files))
    return [file for file in files if file not in merged]


def read_answers(
    folder: Path, select: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda answers: answers
) -> pl.DataFrame:
    """What ``select`` takes from the answers below a folder (columns ``ANSWERS``).

    Servers may write to the folder meanwhile.

    Raises:
        CheckFailed: a file cannot be read or has other columns, or there is none.
    """
    for attempt in range(_ATTEMPTS):
        files = list_answer_files(folder)
        if not files:
            raise CheckFailed(
                "the folder has no answers",
                where=str(folder),
                todo="name a folder that `flowsheet serve --keep-answers` wrote to",
            )
        try:
            for file in files:
                _check_file(file)
            return select(pl.scan_parquet(files, glob=False).select(list(ANSWERS))).collect()
        except FileNotFoundError:  # a server has merged it meanwhile
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _check_file(file: Path) -> None:
    try:
        found = pl.read_parquet_schema(file)
    except FileNotFoundError:
        raise
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CheckFailed(
            f"the file cannot be read as Parquet: {str(error).splitlines()[0]}",
            where=str(file),
            todo="restore it from a backup, or move it away: its answers are missing then",
        ) from error
    wrong = [name for name, kind in ANSWERS.items() if found.get(name) != kind]
    if wrong:
        raise CheckFailed(
            f"the file has no answers of a server: {', '.join(wrong)} is absent or of another type",
            where=str(file),
            todo="name a folder that `flowsheet serve --keep-answers` wrote to",
        )


def list_answer_folders() -> list[Path]:
    """The folders that servers with this state folder have kept answers in.

    Raises:
        CheckFailed: one of them is not there.
    """
    folders = [default_folder(), *_read_registered()]
    for folder in folders[1:]:
        if not folder.is_dir():
            raise CheckFailed(
                "a server has kept answers in a folder that is not there",
                where=str(folder),
                todo="mount it; if it was deleted for good, delete it from the list in "
                f"{_registration_file()} as well",
            )
    return [folder for folder in folders if folder.is_dir()]


def default_folder() -> Path:
    """Where answers are kept that a shadow is compared with, unless another folder is named."""
    return home_path() / "serving" / "answers"


def _find_merged(files: Iterable[Path]) -> Iterator[Path]:
    """Files of which another one of the same worker and day has every write."""
    ranges = []
    for file in files:
        if match := _NAME.fullmatch(file.name):
            writes = int(match["first"]), -int(match["last"])
            ranges.append((file.parent, match["worker"], *writes, file))
    covered: tuple[Path, str, int] | None = None
    for parent, worker, _, negated_last, file in sorted(ranges):
        if covered and covered[:2] == (parent, worker) and -negated_last <= covered[2]:
            yield file
        else:
            covered = parent, worker, -negated_last


def _prepare(folder: Path, model_folder: Path) -> None:
    local_path(folder, "--keep-answers", todo="choose a folder of this machine")
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        model_folder.mkdir(mode=PRIVATE, exist_ok=True)
        probe = model_folder / f".{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"answers cannot be kept in the folder: {error.strerror or error}",
            where=str(folder),
            todo="choose a folder that can be written to with --keep-answers",
        ) from error
    _register(folder.resolve())


def _register(folder: Path) -> None:
    """Add a folder to the list that ``flowsheet erase`` and ``clean`` go through."""
    if folder == default_folder().resolve():
        return
    file = _registration_file()
    (home() / "serving").mkdir(exist_ok=True)
    with exclusive_lock(file.with_name(".answers.lock")):
        registered = _read_registered()
        if folder not in registered:
            write_json(file, [str(known) for known in (*registered, folder)])


def _read_registered() -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return [Path(folder) for folder in read_json(_registration_file())]
    return []


def _registration_file() -> Path:
    return home_path() / "serving" / "answers.json"


def iter_day_folders(folder: Path) -> Iterator[Path]:
    """The folders of the days, of all models; none with other files than a server's."""
    yield from sorted(path for path in folder.glob("*/*-*-*") if _is_day_folder(path))


def _is_day_folder(path: Path) -> bool:
    if not _DAY.fullmatch(path.name) or not path.is_dir():
        return False
    names = [file.name for file in path.iterdir()]
    return all(_NAME.fullmatch(name) or name.startswith(".") for name in names)


def iter_own_files(folder: Path) -> Iterator[Path]:
    """The files of answers below a folder, which may have other records below it as well."""
    yield from sorted(file for file in folder.rglob("*.parquet") if _has_answers(file))


def _has_answers(file: Path) -> bool:
    """By the columns, or by the name if it cannot be read."""
    try:
        return set(ANSWERS) <= set(pl.read_parquet_schema(file))
    except (OSError, pl.exceptions.PolarsError):
        return bool(_NAME.fullmatch(file.name))
