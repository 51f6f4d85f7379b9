"""The challenge's parameters, the catalogue's variables, and units that were mistaken."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

PARAMETERS = {
    "Albumin": "alb",
    "ALP": "alp",
    "ALT": "alt",
    "AST": "ast",
    "Bilirubin": "bili",
    "BUN": "bun",
    "Creatinine": "crea",
    "DiasABP": "dbp",
    "FiO2": "fio2",
    "GCS": "gcs",
    "Glucose": "glu",
    "HCO3": "bicar",
    "HCT": "hct",
    "HR": "hr",
    "K": "k",
    "Lactate": "lact",
    "Mg": "mg",
    "MAP": "map",
    "MechVent": "vent",
    "Na": "na",
    "NIDiasABP": "dbp",
    "NIMAP": "map",
    "NISysABP": "sbp",
    "PaCO2": "pco2",
    "PaO2": "po2",
    "pH": "ph",
    "Platelets": "plt",
    "RespRate": "resp",
    "SaO2": "sao2",
    "SysABP": "sbp",
    "Temp": "temp",
    "TroponinI": "tri",
    "TroponinT": "tnt",
    "Urine": "urine",
    "WBC": "wbc",
    "Weight": "weight",
}
"""In the order of preference of those that are one variable: SysABP counts before NISysABP.

Magnesium has the catalogue's mg/dL, contrary to the challenge's table: its median is 2.0.
"""
PARAMETERS = {
    **{name: variable for name, variable in PARAMETERS.items() if not name.startswith("NI")},
    **{name: variable for name, variable in PARAMETERS.items() if name.startswith("NI")},
}

UNITS_OF_CARE = {1.0: "CCU", 2.0: "CSRU", 3.0: "MICU", 4.0: "SICU"}
"""``ICUType``: coronary, cardiac surgery recovery, medical, surgical."""


@dataclass(frozen=True)
class UnitRule:
    """Values of a parameter that another unit explains, and what they are in the right one."""

    parameter: str
    low: float
    high: float
    factor: float
    offset: float
    mistake: str


RULES_OF_UNITS = (
    UnitRule("FiO2", 0.0, 1.0, 100.0, 0.0, ""),
    UnitRule("pH", 65.0, 80.0, 0.1, 0.0, "times 10"),
    UnitRule("pH", 650.0, 800.0, 0.01, 0.0, "times 100"),
    UnitRule("Temp", 1.0, 6.0, 1.8, 32.0, "degC converted as if it were degF"),
    UnitRule("Temp", 86.0, 110.0, 1 / 1.8, -32 / 1.8, "degF"),
    UnitRule("Temp", 300.0, 430.0, 0.1, 0.0, "times 10"),
    UnitRule("Height", 1.2, 2.2, 100.0, 0.0, "m"),
    UnitRule("Height", 12.0, 22.0, 10.0, 0.0, "a tenth"),
    UnitRule("Height", 304.8, 558.8, 1 / 2.54, 0.0, "cm converted as if it were inches"),
    UnitRule("Height", 1_200.0, 2_200.0, 0.1, 0.0, "times 10"),
    UnitRule("Weight", 350.0, 3_000.0, 0.1, 0.0, "times 10"),
    UnitRule("Weight", 3_500.0, 30_000.0, 0.01, 0.0, "times 100"),
)
"""A rule applies from ``low`` to ``high``, both included: no patient has such a value in the right
unit, and none has what it becomes in another wrong one. Without a mistake it is no correction."""


def correct_units(rows: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """The rows with values in the right unit; ``counts`` gets the corrections.

    >>> rows = pl.DataFrame({"parameter": ["pH", "Temp", "pH"], "value": [735.0, 2.8, 7.4]})
    >>> counts = {}
    >>> correct_units(rows, counts)["value"].round(2).to_list(), list(counts.values())
    ([7.35, 37.04, 7.4], [1, 1])
    """
    corrected = pl.col("value")
    for rule in RULES_OF_UNITS:
        applies = (pl.col("parameter") == rule.parameter) & pl.col("value").is_between(
            rule.low, rule.high
        )
        n = rows.select(applies.sum()).item()
        if rule.mistake and n:
            counts[f"{rule.parameter} corrected: {rule.mistake}"] = n
        value = (pl.col("value") * rule.factor + rule.offset).round(6)
        corrected = pl.when(applies).then(value).otherwise(corrected)
    return rows.with_columns(value=corrected)
