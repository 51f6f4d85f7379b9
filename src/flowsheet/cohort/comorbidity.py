"""Comorbidity scores out of the ICD-9-CM codes of earlier hospital admissions.

The codes of each condition are those of Quan et al., Med Care 43:1130-1139 (2005),
doi:10.1097/01.mlr.0000182534.19832.83, as MIT-LCP/mimic-code lists them; the weights of Charlson's
score are those of Quan et al. (2011), the ones of Elixhauser's conditions those of van Walraven et
al. (2009), with their sources in ``concepts/comorbidity_weights.csv``. A condition counts once,
and not beside the severer one that supersedes it.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort import catalogue

SCORES = ("charlson", "elixhauser")


def score_comorbidity(diagnoses: pl.DataFrame) -> pl.DataFrame:
    """The scores of each stay with at least one code; 0 where no code is of a listed condition.

    Args:
        diagnoses: (stay_id, icd9_code), the codes of earlier admissions, with or without points.

    Returns:
        (stay_id, charlson, elixhauser).

    >>> codes = pl.DataFrame({"stay_id": [1, 1, 1, 2], "icd9_code": ["428.0", "1970", "185", "E8"]})
    >>> score_comorbidity(codes).sort("stay_id").rows()
    [(1, 8.0, 19.0), (2, 0.0, 0.0)]
    """
    code = pl.col("icd9_code").str.replace_all(r"[\s.]", "").str.to_uppercase()
    rows = diagnoses.select("stay_id", _code=code).drop_nulls().unique()
    listed = catalogue.icd9_comorbidities().rename({"code": "_prefix"})
    lengths = listed["_prefix"].str.len_chars().unique().sort().to_list()
    prefixes = [rows.with_columns(_prefix=pl.col("_code").str.head(length)) for length in lengths]
    found = pl.concat(prefixes).join(listed, on="_prefix")
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
