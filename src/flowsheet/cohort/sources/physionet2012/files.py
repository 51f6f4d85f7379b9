"""The files of the challenge: found, read in batches of stays, and parsed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from flowsheet.cohort.record_files import DECOMPRESSION_ERRORS, READ_ERRORS
from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.errors import CheckFailed, first_line

_RECORD = re.compile(r"(\d{1,12})\.txt")
_SET = re.compile(r"set-([a-z])", re.IGNORECASE)
_OUTCOMES = re.compile(r"outcomes-([a-z])\.txt", re.IGNORECASE)
_HEADER = "Time,Parameter,Value"
_OUTCOME_COLUMNS = ("RecordID", "Survival", "In-hospital_death")
LAST_MINUTE = 48 * 60
_TODO = "give the folder with set-a.zip and Outcomes-a.txt as cohort.path"

_FILE_ROWS: dict[str, pl.DataType] = {
    "record": pl.Int64(),
    "set": pl.String(),
    "file": pl.String(),
    "text": pl.String(),  # null: not UTF-8
}


@dataclass(frozen=True)
class RecordFile:
    """One stay's file, in a folder or in a zip."""

    record: int
    set_name: str
    container: Path  # the zip, or the file itself
    member: str | None

    @property
    def name(self) -> str:
        """For people."""
        return self.member or self.container.name


@dataclass(frozen=True)
class ChallengeFiles:
    """The stays' files in ascending order, and the outcomes of each set."""

    root: Path
    records: tuple[RecordFile, ...]
    repeated: tuple[RecordFile, ...]
    """Further files of a stay."""
    outcomes: tuple[Path, ...]

    @classmethod
    def find(cls, path: Path) -> ChallengeFiles:
        """The files at a path: a folder, or one zip.

        Raises:
            CheckFailed: there are no stays, no outcomes, or a zip cannot be read.
        """
        folder = path if path.is_dir() else path.parent
        candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
        files: list[RecordFile] = []
        for file in candidates:
            if file.suffix.lower() == ".zip":
                files += _list_zip(file)
            elif _RECORD.fullmatch(file.name):
                files.append(_as_record(file, file.name, file.parent.name, None))
        if not files:
            what = "there are no files <RecordID>.txt of the PhysioNet Challenge 2012"
            raise CheckFailed(what, where=str(path), todo=_TODO)
        files.sort(key=lambda file: (file.record, str(file.container), file.member or ""))
        unique = {file.record: file for file in reversed(files)}
        repeated_ids = {file.record for file in files if unique[file.record] is not file}
        first = tuple(unique[record] for record in sorted(unique.keys() - repeated_ids))
        repeated = tuple(file for file in files if file.record in repeated_ids)
        sets = {file.set_name for file in files}
        outcomes = [f for f in sorted(folder.rglob("*.txt")) if _OUTCOMES.fullmatch(f.name)]
        if not path.is_dir():
            outcomes = [f for f in outcomes if f.parent == folder and _outcome_set(f) in sets]
        if not outcomes:
            what = "there is no file of outcomes, such as Outcomes-a.txt"
            raise CheckFailed(what, where=str(folder), todo=_TODO)
        return cls(path, first, repeated, tuple(outcomes))

    def all_files(self) -> list[Path]:
        """Every file that is read, for the fingerprint."""
        containers = {file.container for file in (*self.records, *self.repeated)}
        return [*sorted(containers), *self.outcomes]

    def read(self, size: int) -> Iterator[pl.DataFrame]:
        """The texts of that many stays at a time; columns record, set, file, text."""
        with ExitStack() as stack:
            zips = {
                path: stack.enter_context(zipfile.ZipFile(path))
                for path in sorted({f.container for f in self.records if f.member})
            }
            for start in range(0, len(self.records), size):
                part = self.records[start : start + size]
                rows = [(f.record, f.set_name, f.name, _read_text(f, zips)) for f in part]
                yield pl.DataFrame(rows, schema=_FILE_ROWS, orient="row")
            if not self.records:
                yield pl.DataFrame(schema=_FILE_ROWS)

    def find_name_defects(self) -> pl.DataFrame:
        """Stays with several files; none of them is read."""
        rows = [("stays", f.name, "", "one_file_a_stay", str(f.record)) for f in self.repeated]
        return pl.DataFrame(rows, schema=DEFECTS, orient="row")

    def read_outcomes(self) -> pl.DataFrame:
        """(record, survival, hospital_death) of every stay of the files of outcomes.

        Raises:
            CheckFailed: a file lacks a column, or has a value that is no number.
        """
        return pl.concat(_read_outcome_file(file) for file in self.outcomes)


def parse_rows(records: pl.DataFrame, outcomes: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The usable rows of some stays, and the defects.

    Args:
        records: columns record, set, file, text.
        outcomes: columns record, survival, hospital_death.

    Returns:
        record, set, survival, hospital_death, row, minute, parameter, value; and ``DEFECTS``.
    """
    records = records.join(outcomes, on="record", how="left", maintain_order="left")
    lines = (
        records.drop_nulls("text")
        .with_columns(line=pl.col("text").str.replace_all("\r", "").str.split("\n"))
        .drop("text")
        .explode("line")
        .with_columns(row=pl.int_range(pl.len()).over("record"))
    )
    stay_defects = _find_stay_defects(records, lines)
    usable = lines.join(stay_defects, on="file", how="anti", maintain_order="left")
    usable = usable.filter((pl.col("row") > 0) & (pl.col("line") != ""))
    parts = pl.col("line").str.split_exact(",", 2).struct
    clock = parts.field("field_0").str.extract_groups(r"^(\d{2}):([0-5]\d)$").struct
    minute = clock.field("1").cast(pl.Int64) * 60 + clock.field("2").cast(pl.Int64)
    rows = usable.with_columns(
        minute=minute,
        parameter=parts.field("field_1"),
        value=parts.field("field_2").cast(pl.Float64, strict=False),
        commas=pl.col("line").str.count_matches(",", literal=True),
    )
    is_bad = (
        pl.when(pl.col("commas") != 2)
        .then(pl.lit("fields"))
        .when(~(pl.col("minute") <= LAST_MINUTE).fill_null(value=False))
        .then(pl.lit("time"))
        .when(~pl.col("value").is_finite().fill_null(value=False))
        .then(pl.lit("number"))
    )
    rows = rows.with_columns(rule=is_bad)
    row_defects = rows.filter(pl.col("rule").is_not_null()).select(
        table=pl.lit("events"),
        key=pl.format("{} row {} (line {})", "file", "row", pl.col("row") + 1),
        column=pl.col("parameter").fill_null(""),
        rule="rule",
        value=pl.col("line").str.slice(0, 40),
    )
    defects = pl.concat([stay_defects.select(list(DEFECTS)), row_defects.cast(pl.Schema(DEFECTS))])
    return rows.filter(pl.col("rule").is_null()).drop("line", "rule", "commas", "file"), defects


def _find_stay_defects(records: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """The first defect of each file that cannot be used: ``DEFECTS`` and the file."""
    header = lines.filter(pl.col("row") == 0).with_columns(
        line=pl.col("line").str.strip_prefix("\ufeff").str.strip_chars()
    )
    named = lines.filter(pl.col("line").str.contains("^00:00,RecordID,"))
    named = named.with_columns(value=pl.col("line").str.split(",").list.last())
    is_other = pl.col("value").cast(pl.Float64, strict=False) != pl.col("record")
    found = [
        _defects(records.filter(pl.col("text").is_null()), "encoding", pl.lit("not UTF-8")),
        _defects(header.filter(pl.col("line") != _HEADER), "columns", pl.col("line")),
        _defects(named.filter(is_other.fill_null(value=True)), "record_id", pl.col("value")),
        _defects(records.filter(pl.col("hospital_death").is_null()), "outcome", pl.lit("none")),
    ]
    return pl.concat(found).unique("file", keep="first", maintain_order=True)


def _defects(rows: pl.DataFrame, rule: str, value: pl.Expr) -> pl.DataFrame:
    schema = {"file": pl.String(), **DEFECTS}
    return rows.select(
        "file",
        table=pl.lit("stays"),
        key="file",
        column=pl.lit(""),
        rule=pl.lit(rule),
        value=value.str.slice(0, 40),
    ).cast(pl.Schema(schema))


def _list_zip(path: Path) -> list[RecordFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DECOMPRESSION_ERRORS as error:
        what = f"the zip cannot be read: {first_line(error)}"
        raise CheckFailed(what, where=str(path), todo="download it again") from error
    return [
        _as_record(path, Path(name).name, f"{path.stem} {name}", name)
        for name in names
        if _RECORD.fullmatch(Path(name).name)
    ]


def _as_record(container: Path, name: str, place: str, member: str | None) -> RecordFile:
    match = _RECORD.fullmatch(name)
    assert match is not None
    found = _SET.search(place)
    return RecordFile(int(match[1]), found[1].upper() if found else "?", container, member)


def _outcome_set(file: Path) -> str:
    match = _OUTCOMES.fullmatch(file.name)
    return match[1].upper() if match else "?"


def _read_text(file: RecordFile, zips: dict[Path, zipfile.ZipFile]) -> str | None:
    """The file's text; None if it is not UTF-8.

    Raises:
        CheckFailed: the file cannot be read.
    """
    try:
        content = (
            zips[file.container].read(file.member) if file.member else file.container.read_bytes()
        )
    except READ_ERRORS as error:
        what = f"the file cannot be read: {first_line(error)}"
        where = f"{file.container}: {file.name}"
        raise CheckFailed(what, where=where, todo="download it again") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


_OUTCOME_RULES = {
    "there is no number in RecordID, Survival or In-hospital_death": pl.any_horizontal(
        pl.col(_OUTCOME_COLUMNS).is_null()
    ),
    "In-hospital_death is not 0 or 1": ~pl.col("In-hospital_death").is_in([0, 1]),
    "Survival is less than -1 days": pl.col("Survival") < -1,
    "In-hospital_death is 1 and Survival is -1 (alive)": (pl.col("In-hospital_death") == 1)
    & (pl.col("Survival") == -1),
    "the RecordID comes twice": pl.col("RecordID").is_duplicated(),
}
"""What no row may be."""


def _check_outcomes(file: Path, numbers: pl.DataFrame) -> None:
    """Refuse a file of outcomes with a row that breaks a rule; the message names the first."""
    for what, is_broken in _OUTCOME_RULES.items():
        broken = numbers.select(is_broken.fill_null(value=True)).to_series()
        if broken.any():
            line = int(broken.arg_max() or 0) + 2
            raise CheckFailed(what, where=f"{file}, line {line}", todo="correct that row")


def _read_outcome_file(file: Path) -> pl.DataFrame:
    try:
        table = pl.read_csv(file.read_bytes(), infer_schema=False)
    except READ_ERRORS as error:
        what = f"the outcomes cannot be read: {first_line(error)}"
        raise CheckFailed(what, where=str(file), todo="download it again") from error
    for column in _OUTCOME_COLUMNS:
        if column not in table.columns:
            what = f"the outcomes have no column {column!r}"
            raise CheckFailed(what, where=str(file), todo="download it again")
    numbers = table.select(
        pl.col(column).str.strip_chars().cast(pl.Int64, strict=False) for column in _OUTCOME_COLUMNS
    )
    _check_outcomes(file, numbers)
    return numbers.select(
        record="RecordID",
        survival=pl.col("Survival").cast(pl.Float64),
        hospital_death=pl.col("In-hospital_death") == 1,
    )
