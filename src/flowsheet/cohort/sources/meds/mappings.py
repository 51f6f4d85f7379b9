"""Which mapping of codes a data set needs: by its metadata, else by the codes that occur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from flowsheet.cohort.sources.meds.codes import CodeMapping
from flowsheet.errors import CheckFailed

AUTO = "auto"
NAMED_CODES = 10
"""How many codes the refusal of a data set names."""


@dataclass(frozen=True)
class ShippedMapping:
    """A mapping of the package, ``concepts/meds_<name>_codes.csv``."""

    name: str
    etl_name: str
    """Of the extraction that writes these codes, as in ``metadata/dataset.json``."""
    stay_gap_hours: float | None = None
    """Where no code tells of intensive care: the gap in the vital signs that ends a stay."""


SHIPPED = (
    ShippedMapping("mimic", "MIMIC_IV_MEDS"),
    ShippedMapping("openicu", "OpenICU", stay_gap_hours=24.0),
)


@dataclass(frozen=True)
class ChosenMapping:
    """A mapping, and why it was chosen."""

    name: str
    reason: str
    codes: CodeMapping
    stay_gap_hours: float | None = None


def choose_mapping(name: str, metadata: dict[str, Any], codes: pl.DataFrame) -> ChosenMapping:
    """The mapping that an option names; otherwise that of the metadata, if it fits the codes.

    A shipped mapping fits if the codes tell of stays and of variables. If the metadata name none
    that fits, it is the one that fits most rows.

    Args:
        name: a shipped mapping, the path of a CSV file, or ``auto``.
        metadata: the content of ``metadata/dataset.json``.
        codes: (code, rows) of the data set.

    Raises:
        CheckFailed: none fits; the message names the most frequent codes.
        UsageError: the file cannot be read.
    """
    shipped = {mapping.name: mapping for mapping in SHIPPED}
    if name != AUTO:
        gap = shipped[name].stay_gap_hours if name in shipped else None
        chosen = ChosenMapping(name, "cohort.options.mapping", CodeMapping.read(name), gap)
        if _count_rows(chosen, codes).is_empty():
            raise _make_refusal(f"no code of the data set is in the mapping {name}", codes)
        return chosen
    written_by = _describe_extraction(metadata)
    by_codes = f"the codes that occur{f', written by {written_by}' if written_by else ''}"
    candidates = []
    for mapping in SHIPPED:
        is_named = mapping.etl_name.lower() in str(metadata.get("etl_name", "")).lower()
        reason = f"{written_by} in metadata/dataset.json" if is_named else by_codes
        codes_of_mapping = CodeMapping.read(mapping.name)
        chosen = ChosenMapping(mapping.name, reason, codes_of_mapping, mapping.stay_gap_hours)
        rows = _count_rows(chosen, codes)
        if _fits(chosen, rows):
            candidates.append((is_named, int(rows["rows"].sum()), chosen))
    if not candidates:
        raise _make_refusal("no shipped mapping fits the codes of the data set", codes, written_by)
    return max(candidates, key=lambda candidate: candidate[:2])[2]


def describe_variant(codes: pl.DataFrame) -> str:
    """How MIMIC_IV_MEDS has stamped the results of the laboratory; nothing of other codes.

    >>> describe_variant(pl.DataFrame({"code": ["LAB//RESULT//50912//mg/dL"]}))
    'results stamped when they were stored (0.1.0 of April 2026 and later)'
    """
    is_stored = codes["code"].str.starts_with("LAB//RESULT//").any()
    is_drawn = codes["code"].str.contains(r"^LAB//5\d{4}//").any()
    forms = ["results stamped when they were stored (0.1.0 of April 2026 and later)"] * is_stored
    forms += ["results stamped when they were drawn (before 0.1.0 of April 2026)"] * is_drawn
    return "; ".join(forms)


def _count_rows(mapping: ChosenMapping, codes: pl.DataFrame) -> pl.DataFrame:
    """(kind, rows) of the codes that are in a mapping."""
    matches = mapping.codes.match(codes["code"].unique())
    kinds = mapping.codes.rows.select("mapping_row", "kind")
    matched = codes.join(matches, on="code").join(kinds, on="mapping_row")
    return matched.group_by("kind").agg(pl.col("rows").sum())


def _fits(mapping: ChosenMapping, rows: pl.DataFrame) -> bool:
    kinds = set(rows["kind"])
    has_stays = {"icu_admission", "icu_discharge"} <= kinds or mapping.stay_gap_hours is not None
    return has_stays and "variable" in kinds


def _describe_extraction(metadata: dict[str, Any]) -> str:
    """The name and version of the extraction and its data set, as far as the metadata has them."""
    keys = ("etl_name", "etl_version", "dataset_name", "dataset_version")
    return " ".join(str(metadata[key]) for key in keys if metadata.get(key))


def _make_refusal(what: str, codes: pl.DataFrame, written_by: str = "") -> CheckFailed:
    totals = codes.group_by("code").agg(pl.col("rows").sum())
    totals = totals.sort("rows", "code", descending=[True, False])
    seen = ", ".join(f"{code!r} ({rows:,})" for code, rows in totals.head(NAMED_CODES).iter_rows())
    others = f" and {totals.height - NAMED_CODES:,} others" if totals.height > NAMED_CODES else ""
    origin = f", written by {written_by}" if written_by else ""
    return CheckFailed(
        f"{what}{origin}: {seen or 'there are none'}{others}",
        where="cohort.options.mapping",
        todo="write a mapping of these codes (docs/bring-your-own.md) and name its file, or force "
        f"one of {', '.join(mapping.name for mapping in SHIPPED)}",
    )
