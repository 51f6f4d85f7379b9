"""Comorbidity scores out of the ICD-9-CM and ICD-10 codes of earlier hospital admissions.

The codes of each condition are those of Quan et al., Med Care 43:1130-1139 (2005),
doi:10.1097/01.mlr.0000182534.19832.83, in both versions: of ICD-9-CM as MIT-LCP/mimic-code lists
them, of ICD-10 as the R package comorbidity does (doi:10.21105/joss.00648). A condition is the same
by either version, so that a stay may have codes of both. The weights of Charlson's score are those
of Quan et al. (2011), the ones of Elixhauser's conditions those of van Walraven et al. (2009), with
their sources in ``concepts/comorbidity_weights.csv``. A condition counts once, and not beside the
severer one that supersedes it.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort import catalogue

SCORES = ("charlson", "elixhauser")


def score_comorbidity(diagnoses: pl.DataFrame) -> pl.DataFrame:
    """The scores of each stay with at least one code; 0 where no code is of a listed condition.

    Args:
        diagnoses: (stay_id, version, code), the codes of earlier admissions, with or without
            points; the version of ICD is 9 or 10.

    Returns:
        (stay_id, charlson, elixhauser).

    >>> codes = pl.DataFrame(
    ...     {
    ...         "stay_id": [1, 1, 1, 2, 3, 3],
    ...         "version": [9, 9, 10, 9, 10, 10],
    ...         "code": ["428.0", "1970", "C61", "E86", "E86.0", "I50.9"],
    ...     }
    ... )
    >>> score_comorbidity(codes).sort("stay_id").rows()
    [(1, 8.0, 19.0), (2, 0.0, 0.0), (3, 2.0, 12.0)]
    """
    code = pl.col("code").str.replace_all(r"[\s.]", "").str.to_uppercase()
    rows = diagnoses.select("stay_id", pl.col("version").cast(pl.Int32), _code=code)
    rows = rows.drop_nulls().unique()
    listed = catalogue.comorbidity_codes().rename({"code": "_prefix"})
    lengths = listed["_prefix"].str.len_chars().unique().sort().to_list()
    prefixes = [rows.with_columns(_prefix=pl.col("_code").str.head(length)) for length in lengths]
    found = pl.concat(prefixes).join(listed, on=["version", "_prefix"])
    found = found.select("stay_id", "score", "condition").unique()
    severer = found.rename({"condition": "superseded_by"})
    weighted = found.join(catalogue.comorbidity_weights(), on=["score", "condition"])
    counted = weighted.join(severer, on=["stay_id", "score", "superseded_by"], how="anti")
    stays = rows.select("stay_id").unique().sort("stay_id")
    for score in SCORES:
        totals = counted.filter(score=score).group_by("stay_id").agg(pl.col("weight").sum())
        totals = totals.rename({"weight": score})
        stays = stays.join(totals, on="stay_id", how="left", maintain_order="left")
    return stays.with_columns(pl.col(SCORES).fill_null(0.0))
