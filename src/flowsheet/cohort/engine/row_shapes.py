"""Bring parsed rows to the shape of their role: meanings of texts, columns of items, item numbers.

Most tables have that shape already. A database says in its YAML what is to be done.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from flowsheet.cohort.engine.cells import CELL_TYPES, CellKind
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.files import RawTable
from flowsheet.cohort.engine.roles import FIELDS
from flowsheet.cohort.engine.spelling import spell_text

OTHER_TEXT = "*"
"""In ``texts`` of a YAML: any other text."""
_MAX_NAMES = 100
"""Texts of a table that are counted by name; a damaged file may have any number of them."""
_SHOWN_CHARACTERS = 40


def shape_rows(table: RawTable, rows: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """The rows of a table in the shape of its role.

    Args:
        table: the table, with ``texts`` and ``values`` of its YAML.
        rows: parsed rows, with ``row``.
        log: receives texts without a meaning, and rows of items that are not mapped.
    """
    for field, meanings in table.spec.texts.items():
        rows = _replace_texts(table, rows, field, meanings, log)
    if table.spec.values:
        rows = _melt(table, rows)
    if table.item_numbers is not None and "item" in rows.columns:
        rows = _number_items(table, rows, table.item_numbers, log)
    return rows


def _replace_texts(
    table: RawTable, rows: pl.DataFrame, field: str, meanings: dict[str, str], log: ExclusionLog
) -> pl.DataFrame:
    """The rows with the meaning of a field's texts, in the type of the field.

    Args:
        table: the table.
        rows: parsed rows.
        field: the field.
        meanings: what each text means.
        log: receives texts without a meaning.
    """
    known = {text: meaning for text, meaning in meanings.items() if text != OTHER_TEXT}
    spelled = pl.Series(list(known), dtype=pl.String)
    keys = spelled.to_frame("text").select(spell_text(pl.col("text"))).to_series()
    text = rows.select(spell_text(pl.col(field))).to_series()
    meaning = text.replace_strict(
        keys, pl.Series(list(known.values()), dtype=pl.String), default=None
    )
    if OTHER_TEXT in meanings:
        other = pl.when(text.is_not_null()).then(pl.lit(meanings[OTHER_TEXT]))
        meaning = pl.select(pl.coalesce(meaning, other)).to_series()
    is_unknown = meaning.is_null() & text.is_not_null()
    if is_unknown.any():
        name = table.spec.names[field].upper()
        _count_texts(rows[field].filter(is_unknown), f"{table.name}: {name}", log, "rows kept")
    dtype = CELL_TYPES[FIELDS[table.spec.role][field]]
    is_empty = meaning == ""
    meaning = pl.select(pl.when(~is_empty).then(meaning)).to_series()
    return rows.with_columns(meaning.cast(dtype).alias(field))


def _melt(table: RawTable, rows: pl.DataFrame) -> pl.DataFrame:
    """A row for each value of a row that has several."""
    columns = [name.rstrip("?") for name in table.spec.values]
    fields = [name for name in rows.columns if name not in columns]
    parts = []
    for name in columns:
        is_number = table.kinds[name] is CellKind.number
        number = pl.col(name) if is_number else pl.lit(None, pl.Float64)
        text = pl.lit(None, pl.String) if is_number else pl.col(name)
        charted = rows.filter(pl.col(name).is_not_null())
        parts.append(charted.select(*fields, item=pl.lit(name), number=number, text=text))
    return pl.concat(parts)


def _number_items(
    table: RawTable, rows: pl.DataFrame, numbers: Mapping[str, int], log: ExclusionLog
) -> pl.DataFrame:
    """The rows of mapped items, with the items' numbers.

    Args:
        table: the table.
        rows: rows whose ``item`` is a text.
        numbers: the number of each mapped item.
        log: receives the rows of other items.
    """
    item = rows.select(spell_text(pl.col("item"))).to_series()
    number = item.replace_strict(
        pl.Series(list(numbers), dtype=pl.String),
        pl.Series(list(numbers.values()), dtype=pl.Int64),
        default=None,
    )
    is_unmapped = number.is_null()
    if is_unmapped.any():
        what = f"{table.name}: items that the catalogue does not map"
        _count_texts(rows["item"].filter(is_unmapped), what, log)
    return rows.with_columns(number.alias("item")).filter(~is_unmapped)


def _count_texts(texts: pl.Series, reason: str, log: ExclusionLog, note: str = "") -> None:
    """Count rows by their text.

    Args:
        texts: the texts of the rows.
        reason: what is wrong with them.
        log: receives the counts.
        note: a remark at the end of the reason.
    """
    shown = texts.fill_null("none").str.slice(0, _SHOWN_CHARACTERS)
    end = f" ({note})" if note else ""
    for text, n in shown.value_counts().sort(shown.name).iter_rows():
        named = f"{reason}: {text}{end}"
        n_names = sum(key.startswith(reason) for key in log.counts)
        is_new = named not in log.counts
        log.counts[f"{reason}: others{end}" if is_new and n_names > _MAX_NAMES else named] += n
