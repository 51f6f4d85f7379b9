"""Erase subjects from an extract, and keep erased subjects out of new ones.

An extract from which a subject was erased, and one that is ingested again from records that still
have the subject, are the same to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from flowsheet.cohort.extract import Extract, Manifest, Provenance, read_oracle
from flowsheet.cohort.schema import TABLES, Tables, to_contract
from flowsheet.cohort.writer import ExtractWriter
from flowsheet.state.erasures import IdKind

FindErased = Callable[[IdKind, Iterable[int]], set[int]]
"""Those of the ids that are to be left out."""

LEFT_OUT = "are not of erased subjects"
"""Step of the attrition table."""

_NAMED: dict[IdKind, str] = {
    "subject": r"(?i)\b(?:(?:subject|patient)\W*|p)\d+",
    "stay": r"(?i)\bstay\W*\d+",
}
"""How keys of quarantined rows name a subject (also by its file, ``p000017.psv``) and a stay."""


class ErasureFilter:
    """Leaves erased subjects out of batches, and counts what it left out."""

    def __init__(self, find_erased: FindErased) -> None:
        self._find_erased = find_erased
        self.stays: set[int] = set()
        """Stays that were left out."""
        self.rows = 0
        """Rows that were left out, of all tables and the quarantine."""
        self.kept_stays = 0

    def apply(self, tables: Tables) -> Tables:
        """The tables without erased subjects."""
        erased = self._find_erased("subject", tables.stays["subject_id"].unique().to_list())
        is_erased = pl.col("subject_id").is_in(sorted(erased))
        stays = tables.stays.filter(is_erased)["stay_id"].to_list()
        self.kept_stays += tables.stays.height - len(stays)
        if not stays:
            return tables
        self.stays.update(stays)
        kept = {}
        for table in TABLES:
            rows: pl.DataFrame = getattr(tables, table)
            kept[table] = self._drop_stays(rows, stays)
        return Tables(**kept)

    def apply_to_quarantine(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Quarantined rows (``QUARANTINE``) without those that name an erased subject or stay."""
        if rows.is_empty():
            return rows
        numbered = rows.with_row_index("n")
        ids = pl.concat([_list_named(numbered, kind) for kind in _NAMED], how="vertical")
        is_erased = pl.lit(value=False)
        for kind in _NAMED:
            named = ids.filter(kind=kind)["id"].unique().to_list()
            erased = self._find_erased(kind, named) | (self.stays if kind == "stay" else set())
            is_erased |= (pl.col("kind") == kind) & pl.col("id").is_in(sorted(erased))
        left_out = ids.filter(is_erased)["n"].unique()
        self.rows += len(left_out)
        return numbered.filter(~pl.col("n").is_in(left_out.implode())).drop("n")

    def apply_to_oracle(self, oracle: pl.DataFrame) -> pl.DataFrame:
        """The true probabilities of the stays that were kept."""
        return self._drop_stays(oracle, sorted(self.stays))

    def _drop_stays(self, rows: pl.DataFrame, stays: list[int]) -> pl.DataFrame:
        kept = rows.filter(~pl.col("stay_id").is_in(stays))
        self.rows += rows.height - kept.height
        return kept

    def add_step(self, attrition: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
        """The attrition with a step for what was left out, if anything was."""
        steps = tuple((step, n) for step, n in attrition if step != LEFT_OUT)
        return (*steps, (LEFT_OUT, self.kept_stays)) if self.stays else steps


def _list_named(rows: pl.DataFrame, kind: IdKind) -> pl.DataFrame:
    """(n, kind, id): the ids that row ``n`` of a quarantine names, in its key or as JSON."""
    named = pl.concat_list(
        pl.col("key").str.extract_all(_NAMED[kind]).fill_null([]),
        pl.col("row").str.extract_all(rf'"{kind}_id":\d+').fill_null([]),
    )
    in_text = rows.select("n", id=named).explode("id")
    ids = in_text.with_columns(pl.col("id").str.extract(r"(\d+)").cast(pl.Int64, strict=False))
    if kind == "stay":
        ids = pl.concat([ids, rows.select("n", id="stay_id")])
    return ids.drop_nulls().select("n", pl.lit(kind).alias("kind"), "id")


def count_rows(extract: Path, subjects: Iterable[int], stays: Iterable[int]) -> int:
    """Rows of these subjects in an extract's tables, its quarantine and its oracle."""
    counted = ErasureFilter(_finder(subjects, stays))
    opened = Extract.open(extract)
    for tables in _iter_batches(opened):
        counted.apply(tables)
    for rows in _quarantines(extract):
        counted.apply_to_quarantine(rows)
    oracle = read_oracle(opened)
    if oracle is not None:
        counted.apply_to_oracle(oracle)
    return counted.rows


def write_without(
    extract: Path, target: Path, subjects: Iterable[int], stays: Iterable[int]
) -> Manifest:
    """Write an extract without these subjects to a new folder.

    Args:
        extract: folder of the extract.
        target: an existing, empty folder.
        subjects: ids of the subjects.
        stays: ids of their stays, which the quarantine may have although the tables have not.

    Raises:
        CheckFailed: the extract is incomplete or damaged.
    """
    opened = Extract.open(extract, verify=True)
    erasure = ErasureFilter(_finder(subjects, stays))
    manifest = opened.manifest
    with ExtractWriter(target) as writer:
        for tables in _iter_batches(opened):
            writer.add(erasure.apply(tables))
        for rows in _quarantines(extract):
            writer.add_quarantined(erasure.apply_to_quarantine(rows))
        oracle = read_oracle(opened)
        if oracle is not None:
            writer.add_oracle(erasure.apply_to_oracle(oracle))
        provenance = {name: getattr(manifest, name) for name in Provenance.model_fields}
        provenance["attrition"] = erasure.add_step(manifest.attrition)
        return writer.finish(Provenance(**provenance))


def _finder(subjects: Iterable[int], stays: Iterable[int]) -> FindErased:
    erased: dict[IdKind, set[int]] = {"subject": set(subjects), "stay": set(stays)}
    return lambda kind, numbers: erased[kind] & set(numbers)


def _iter_batches(extract: Extract) -> Iterator[Tables]:
    """The batches that the extract was written in: a row group of its stays each."""
    with pq.ParquetFile(extract.path / "stays.parquet") as file:
        groups = [
            pl.Series(file.read_row_group(i, columns=["stay_id"])["stay_id"].to_numpy())
            for i in range(file.num_row_groups)
        ]
    for stays in groups:
        in_batch = pl.col("stay_id").is_between(stays.min(), stays.max())
        tables = {}
        for table in TABLES:
            rows = extract.scan(table).filter(in_batch).collect()
            tables[table] = to_contract(table, rows)  # an earlier release wrote fewer columns
        yield Tables(**tables)


def _quarantines(extract: Path) -> Iterator[pl.DataFrame]:
    file = extract / "quarantine.parquet"
    if file.is_file():
        yield pl.read_parquet(file, glob=False)
