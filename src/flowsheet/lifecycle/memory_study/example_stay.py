"""One held-out stay of the memory study: what was given and measured, and what the LSTM's gates made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.sources.simulated import true_curves
from flowsheet.config import MemoryStudyConfig
from flowsheet.errors import UsageError
from flowsheet.lifecycle.memory_study import old_doses
from flowsheet.lifecycle.memory_study.replicate import Replicate
from flowsheet.lifecycle.memory_study.report import StayReport
from flowsheet.typing import Floats, Ints32
from flowsheet.windows.sequences import Sequences

if TYPE_CHECKING:
    from flowsheet.lifecycle.memory_study.inspection import Gates

LABS = ("lact", "wbc", "crea", "plt", "map")
"""Variables that are drawn, as far as they are there."""
UNITS = 12
"""Units of the cell that are drawn: those that moved most."""
MIDDLE = (0.1, 0.9)
"""Of the units, the quantiles between which a gate's band lies."""


def shown_stay(each: Replicate, study: MemoryStudyConfig) -> StayReport | None:
    """The stay of the study, None where no model has an LSTM's gates.

    Raises:
        UsageError: the chosen stay is not among the held-out ones.
    """
    name = next(
        (
            name
            for name, model_package in each.model_packages.items()
            if model_package.kind == "lstm"
        ),
        None,
    )
    if name is None:
        return None
    from flowsheet.lifecycle.memory_study.inspection import lstm_gates
    from flowsheet.models._recurrent import RecurrentModel

    place = _chosen(each, study)
    stay = each.test.take(np.array([place]))
    rows = slice(int(each.test.offsets[place]), int(each.test.offsets[place + 1]))
    model = each.model_packages[name].model
    assert isinstance(model, RecurrentModel)
    gates = lstm_gates(model, each.scaled(name, stay))
    return StayReport(
        model=name,
        stay_id=int(stay.stay_id[0]),
        risk=pl.DataFrame(
            {
                "step": stay.step,
                "septic": np.nan_to_num(stay.history[:, 0]) == 1,
                "law": each.law[rows],
                "risk": each.predictor(name)(stay),
            }
        ),
        doses=_doses(each, stay),
        labs=_labs(stay),
        gates=_gates(stay.step, gates),
        cell=_cell(stay.step, gates.cell),
    )


def _chosen(each: Replicate, study: MemoryStudyConfig) -> int:
    """The position of the stay among the held-out ones."""
    if study.example_stay is not None:
        found = np.flatnonzero(each.test.stay_id == study.example_stay)
        if len(found) == 0:
            raise UsageError(
                f"stay {study.example_stay} is not among the held-out stays of the first replicate",
                where="memory.example_stay",
                todo=f"choose one such as {', '.join(map(str, each.test.stay_id[:5]))}, or none",
            )
        return int(found[0])
    curves = true_curves(each.options)
    effects = {drug: curves.filter(drug=drug)["effect"].to_numpy() for drug in each.drugs}
    return int(np.argmax(old_doses(each.test, each.drugs, effects, study.gradient_lag)))


def _doses(each: Replicate, stay: Sequences) -> pl.DataFrame:
    """(step, drug, doses): what was given, in reference doses."""
    parts = [
        pl.DataFrame(
            {
                "step": stay.step,
                "drug": [drug] * stay.rows,
                "doses": stay.x[:, column].astype(np.float64) / each.options.drugs[drug].reference,
            }
        ).filter(pl.col("doses") > 0)
        for drug, column in each.drugs.items()
    ]
    return pl.concat(parts)


def _labs(stay: Sequences) -> pl.DataFrame:
    """(step, variable with its unit, value): the latest known values, where there is one."""
    places = {
        f.source: i
        for i, f in enumerate(stay.features)
        if f.kind == "value" and f.name.endswith("_last")
    }
    schema = {"step": pl.Int32, "variable": pl.String, "value": pl.Float64}
    parts = [pl.DataFrame(schema=schema)]
    for variable in (v for v in LABS if v in places):
        columns = {
            "step": stay.step,
            "variable": [_named(variable)] * stay.rows,
            "value": stay.x[:, places[variable]],
        }
        parts.append(pl.DataFrame(columns).cast(schema).drop_nans())  # type: ignore[arg-type]
    return pl.concat(parts)


def _named(variable: str) -> str:
    unit = catalogue.variable(variable).unit
    return f"{variable}, {unit}" if unit else variable


def _gates(step: Ints32, gates: Gates) -> pl.DataFrame:
    """(step, gate, mean, low, high): over the layer's units."""
    parts = []
    for name in ("forget", "input", "output"):
        values = getattr(gates, name)
        low, high = np.quantile(values, MIDDLE, axis=1)
        columns = {
            "step": step,
            "gate": [name] * len(step),
            "mean": values.mean(axis=1),
            "low": low,
            "high": high,
        }
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def _cell(step: Ints32, cell: Floats) -> pl.DataFrame:
    """(step, unit, value, norm): the units that moved most, and the root mean square over all units."""
    moved = np.argsort(-cell.std(axis=0), kind="stable")[:UNITS]
    norm = np.sqrt((cell**2).mean(axis=1))
    parts = [
        pl.DataFrame(
            {"step": step, "unit": [int(unit)] * len(step), "value": cell[:, unit], "norm": norm}
        )
        for unit in moved
    ]
    return pl.concat(parts)
