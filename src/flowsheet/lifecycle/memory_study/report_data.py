"""What a memory study found: frames that are kept, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.lifecycle.memory_study import LAW, over_replicates
from flowsheet.state.json_files import read_json, write_json

_FRAMES = ("curves", "responses", "gradients", "figures", "orders")
_STAY = ("risk", "doses", "labs", "gates", "cell")


@dataclass(frozen=True)
class StayReport:
    """One held-out stay; frames with a row a step."""

    model: str
    """Whose gates they are."""
    stay_id: int
    risk: pl.DataFrame  # step, septic (in the step that ends), law, risk (of the next step)
    doses: pl.DataFrame  # step, drug, doses (in reference doses)
    labs: pl.DataFrame  # step, variable, value
    gates: pl.DataFrame  # step, gate (forget, input, output), mean, low, high (over units)
    cell: pl.DataFrame  # step, unit, value, norm


@dataclass(frozen=True)
class MemoryReport:
    """What the study found; replicates are counted from 0, effects and responses in log odds."""

    curves: pl.DataFrame  # drug, shape, lag, effect
    responses: pl.DataFrame  # replicate, model, drug, lag, response
    gradients: pl.DataFrame  # replicate, model, lag, norm, relative
    figures: pl.DataFrame  # see ``evaluation.memory.figures``
    orders: pl.DataFrame  # see ``evaluation.memory.orders``
    about: dict[str, Any]
    """models ({name: family}), closer, baseline, far, doses, confidence, resamples, seeds, trials,
    followed, subjects, step_hours."""
    stay: StayReport | None = None

    def save(self, folder: Path) -> None:
        """Write the frames as Parquet and the rest as JSON into an existing folder."""
        for name in _FRAMES:
            getattr(self, name).write_parquet(folder / f"{name}.parquet")
        told: dict[str, Any] = {"about": self.about, "stay": None}
        if self.stay:
            told["stay"] = {"model": self.stay.model, "stay_id": self.stay.stay_id}
            for name in _STAY:
                getattr(self.stay, name).write_parquet(folder / f"stay_{name}.parquet")
        write_json(folder / "about.json", told)

    @classmethod
    def load(cls, folder: Path) -> MemoryReport:
        """The report of :meth:`save`."""
        told = read_json(folder / "about.json")
        frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in _FRAMES}
        stay = None
        if told["stay"]:
            model, stay_id = told["stay"]["model"], told["stay"]["stay_id"]
            stay = StayReport(
                model,
                stay_id,
                *(pl.read_parquet(folder / f"stay_{name}.parquet") for name in _STAY),
            )
        return cls(**frames, about=told["about"], stay=stay)

    @property
    def unit(self) -> str:
        """What a step is called."""
        return {1: "Hours", 24: "Days"}.get(
            self.about["step_hours"], f"Steps of {self.about['step_hours']:g} h"
        )

    @property
    def models(self) -> list[str]:
        """Names, the smallest log loss first, without the law."""
        ranked = self.figures["model"].unique(maintain_order=True).to_list()
        return [model for model in ranked if model != LAW]

    @cached_property
    def learned(self) -> pl.DataFrame:
        """(model, drug, lag, response, low, high): over replicates; NaN limits with fewer than two."""
        grouped = self.responses.group_by("model", "drug", "lag", maintain_order=True).agg(
            "response"
        )
        told = [over_replicates(values, self.about["confidence"]) for values in grouped["response"]]
        columns = dict(zip(("response", "low", "high"), zip(*told, strict=True), strict=True))
        return grouped.with_columns(**{name: pl.Series(values) for name, values in columns.items()})

    @cached_property
    def distances(self) -> pl.DataFrame:
        """(model, drug, distance): the root mean square over lags of the learned less the true effect."""
        joined = self.learned.join(self.curves, on=["drug", "lag"])
        square = (pl.col("response") - pl.col("effect")).pow(2).mean().sqrt()
        return joined.group_by("model", "drug", maintain_order=True).agg(distance=square)

    @cached_property
    def forgetful(self) -> list[str]:
        """Models whose response is exactly 0 after the dose's own step, in every stay and replicate."""
        later = self.responses.filter(pl.col("lag") > 0).group_by("model", maintain_order=True)
        most = dict(later.agg(pl.col("response").abs().max()).iter_rows())
        return [model for model in self.models if most.get(model) == 0]

    def ratios(self, far: int) -> dict[tuple[str, str], list[float]]:
        """By pairs of recurrent models: how many times as much of its own gradient the first keeps, by replicate."""
        kept = self.gradients.filter(lag=far).sort("replicate")
        found = {
            str(m): part["relative"].to_list()
            for (m,), part in kept.group_by("model", maintain_order=True)
        }
        return {
            (a, b): [x / y if y else float("inf") for x, y in zip(found[a], found[b], strict=True)]
            for a in found
            for b in found
            if a != b
        }
