"""Batch scoring: an extract in, a risk for every step of every stay out, as Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TABLES, TIME, Tables
from flowsheet.config import Frozen
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.home import digest
from flowsheet.lifecycle.stage import Progress, Stage, stage
from flowsheet.tracking import champion as registry
from flowsheet.tracking.bundle import Bundle
from flowsheet.tracking.champion import Registered

SCORES: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,  # when the prediction is made
    "step": pl.Int32(),
    "risk": pl.Float64(),
    "model": pl.String(),
    "version": pl.Int64(),
    "extract": pl.String(),  # fingerprint of the records that were scored
    "scored_at": pl.Datetime("us", "UTC"),
}
_STAYS_AT_ONCE = 2_000


class Scored(Frozen):
    """What a scoring gave."""

    stage: Stage
    file: str
    model: str
    version: int
    stays: int
    steps: int


def score(model: str, extract: Path, out: Path | None, progress: Progress) -> Scored:
    """Score every stay of an extract with the version that ``NAME@ALIAS`` or ``NAME/VERSION`` means.

    The same version and the same records are scored once: a second call finds the first one's file. ``out`` gets a
    copy of it.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the folder is no whole extract, or what it can hold is not what the model was trained with.
        FlowsheetError: the file cannot be written.
    """
    found = registry.named(model)
    opened = Extract.open(extract, verify=True)
    bundle = registry.load(found)
    _check_speaks(opened, bundle)
    key = digest([bundle.training_key, found.name, found.version, opened.fingerprint])

    def make(folder: Path) -> None:
        parts = []
        for tables in _chunks(opened):
            parts.append(bundle.predict(tables))
            progress(f"{sum(part['stay_id'].n_unique() for part in parts):,} stays scored")
        _marked(pl.concat(parts), found, opened).write_parquet(folder / "scores.parquet")

    made = stage("scores", key, make)
    file = made.folder / "scores.parquet"
    if out is not None:
        _copy(file, out)
    counted = pl.scan_parquet(file).select(pl.col("stay_id").n_unique(), pl.len()).collect().row(0)
    return Scored(
        stage=made, file=str(out or file), model=found.name, version=found.version, stays=counted[0], steps=counted[1]
    )


def _check_speaks(extract: Extract, bundle: Bundle) -> None:
    """What the model knows and the extract can never hold would silently count as never measured."""
    absent = sorted(set(bundle.columns["variables"]) - set(extract.manifest.variables))
    if len(absent) > len(bundle.columns["variables"]) / 2:
        raise CheckFailed(
            f"the extract cannot hold {len(absent)} of the {len(bundle.columns['variables'])} variables that the model "
            f"was trained with: {', '.join(absent[:8])}, ...",
            where=str(extract.path),
            todo="score records of the kind that the model was trained on",
        )


def _chunks(extract: Extract) -> Iterator[Tables]:
    """Some stays at a time, in ascending order; the tables are sorted by stay, so each part is read once."""
    stays = extract.scan("stays").sort("stay_id").collect()
    for some in stays.iter_slices(_STAYS_AT_ONCE):
        mine = pl.col("stay_id").is_between(some["stay_id"].min(), some["stay_id"].max())
        rest = {table: extract.scan(table).filter(mine).collect() for table in TABLES if table != "stays"}
        yield Tables(stays=some, **rest)


def _marked(risks: pl.DataFrame, found: Registered, extract: Extract) -> pl.DataFrame:
    return risks.with_columns(
        model=pl.lit(found.name),
        version=pl.lit(found.version),
        extract=pl.lit(extract.fingerprint),
        scored_at=pl.lit(datetime.now(UTC)),
    ).select(pl.col(name).cast(kind) for name, kind in SCORES.items())


def _copy(file: Path, out: Path) -> None:
    """A copy that is there whole or not at all; an older one of the same content is left as it is."""
    if out.is_dir():
        raise FlowsheetError(
            "there is a folder of that name", where=str(out), todo="name a file, such as scores.parquet"
        )
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(file.read_bytes())
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FlowsheetError(f"could not write: {error.strerror}", where=str(out), todo="name another file") from error
