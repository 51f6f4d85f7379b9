"""One held-out stay of the memory study: doses, measurements, predictions and the LSTM's gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.sources.simulated import true_curves
from flowsheet.errors import UsageError
from flowsheet.lifecycle.memory_study.dose_response import compute_old_dose_effects
from flowsheet.lifecycle.memory_study.replicate import Replicate
from flowsheet.lifecycle.memory_study.report_data import ExampleStay
from flowsheet.typing import Floats, Ints32
from flowsheet.windows.sequences import Sequences

if TYPE_CHECKING:
    from flowsheet.lifecycle.memory_study.inspection import GateTrace

VARIABLES = ("lact", "wbc", "crea", "plt", "map")
"""Variables that are drawn, as far as the extract has them."""
MAX_UNITS = 12
"""Units of the cell that are drawn: those with the largest variation."""
BAND_QUANTILES = (0.1, 0.9)
"""Quantiles over the units that bound a gate's band."""


def build_example_stay(replicate: Replicate) -> ExampleStay | None:
    """The example stay of the replicate; None where no model is an LSTM.

    Raises:
        UsageError: the configured stay is not a held-out one.
    """
    lstms = [name for name, package in replicate.model_packages.items() if package.kind == "lstm"]
    if not lstms:
        return None
    from flowsheet.lifecycle.memory_study.inspection import trace_lstm_gates
    from flowsheet.models._recurrent import RecurrentModel

    name, test = lstms[0], replicate.test
    position = _choose_stay(replicate)
    stay = test.take(np.array([position]))
    rows = slice(int(test.offsets[position]), int(test.offsets[position + 1]))
    model = replicate.model_packages[name].model
    assert isinstance(model, RecurrentModel)
    gates = trace_lstm_gates(model, replicate.scale(name, stay))
    return ExampleStay(
        model=name,
        stay_id=int(stay.stay_id[0]),
        predictions=pl.DataFrame(
            {
                "step": stay.step,
                "in_state": np.nan_to_num(stay.history[:, 0]) == 1,
                "oracle": replicate.oracle[rows],
                "model": replicate.predictor(name)(stay),
            }
        ),
        doses=_tabulate_doses(replicate, stay),
        measurements=_tabulate_measurements(stay),
        gates=_tabulate_gates(stay.step, gates),
        cell=_tabulate_cell(stay.step, gates.cell),
    )


def _choose_stay(replicate: Replicate) -> int:
    """The position of the configured stay, or of the one with the largest effect of old doses."""
    stay_ids, stay_id = replicate.test.stay_id, replicate.study.example_stay
    if stay_id is not None:
        positions = np.flatnonzero(stay_ids == stay_id)
        if len(positions) == 0:
            examples = ", ".join(map(str, stay_ids[:5]))
            raise UsageError(
                f"stay {stay_id} is not among the held-out stays of the first replicate",
                where="memory.example_stay",
                todo=f"choose one such as {examples}, or none",
            )
        return int(positions[0])
    curves = true_curves(replicate.options)
    effects = {
        drug: curves.filter(drug=drug)["effect"].to_numpy() for drug in replicate.dose_columns
    }
    min_lag = replicate.study.gradient_lag
    old_effects = compute_old_dose_effects(replicate.test, replicate.dose_columns, effects, min_lag)
    return int(np.argmax(old_effects))


def _tabulate_doses(replicate: Replicate, stay: Sequences) -> pl.DataFrame:
    """(step, drug, doses): the given doses, in reference doses."""
    parts = []
    for drug, column in replicate.dose_columns.items():
        amount = stay.x[:, column].astype(np.float64)
        doses = amount / replicate.options.drugs[drug].reference
        columns = {"step": stay.step, "drug": [drug] * stay.rows, "doses": doses}
        parts.append(pl.DataFrame(columns).filter(pl.col("doses") > 0))
    return pl.concat(parts)


def _tabulate_measurements(stay: Sequences) -> pl.DataFrame:
    """(step, variable with its unit, value): the latest known values."""
    last_values = {
        feature.source: column
        for column, feature in enumerate(stay.features)
        if feature.kind == "value" and feature.name.endswith("_last")
    }
    schema = {"step": pl.Int32, "variable": pl.String, "value": pl.Float64}
    parts = [pl.DataFrame(schema=schema)]
    for variable in VARIABLES:
        if variable in last_values:
            columns = {
                "step": stay.step,
                "variable": [_label(variable)] * stay.rows,
                "value": stay.x[:, last_values[variable]],
            }
            parts.append(pl.DataFrame(columns).cast(schema).drop_nans())  # type: ignore[arg-type]
    return pl.concat(parts)


def _label(variable: str) -> str:
    unit = catalogue.variable(variable).unit
    return f"{variable}, {unit}" if unit else variable


def _tabulate_gates(step: Ints32, gates: GateTrace) -> pl.DataFrame:
    """(step, gate, mean, low, high) over the layer's units."""
    parts = []
    for name in ("forget", "input", "output"):
        values = getattr(gates, name)
        low, high = np.quantile(values, BAND_QUANTILES, axis=1)
        columns = {
            "step": step,
            "gate": [name] * len(step),
            "mean": values.mean(axis=1),
            "low": low,
            "high": high,
        }
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def _tabulate_cell(step: Ints32, cell: Floats) -> pl.DataFrame:
    """(step, unit, value, norm): the units with the largest variation, and the norm of all."""
    units = np.argsort(-cell.std(axis=0), kind="stable")[:MAX_UNITS]
    norm = np.sqrt((cell**2).mean(axis=1))
    parts = [
        pl.DataFrame(
            {"step": step, "unit": [int(unit)] * len(step), "value": cell[:, unit], "norm": norm}
        )
        for unit in units
    ]
    return pl.concat(parts)
