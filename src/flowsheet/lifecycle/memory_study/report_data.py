"""The results of a memory study as frames, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from flowsheet.lifecycle.memory_study.oracle_bound import ORACLE, estimate_mean
from flowsheet.state.json_files import read_json, write_json

_FRAMES = ("effects", "responses", "gradients", "scores", "comparisons")
_STAY_FRAMES = ("predictions", "doses", "measurements", "gates", "cell")


@dataclass(frozen=True)
class ExampleStay:
    """One held-out stay; frames with a row a step."""

    model: str
    """The LSTM whose gates are shown."""
    stay_id: int
    predictions: pl.DataFrame  # step, in_state (in this step), oracle, model (of the next step)
    doses: pl.DataFrame  # step, drug, doses (in reference doses)
    measurements: pl.DataFrame  # step, variable, value
    gates: pl.DataFrame  # step, gate (forget, input, output), mean, low, high (over units)
    cell: pl.DataFrame  # step, unit, value, norm


@dataclass(frozen=True)
class MemoryReport:
    """The results of the study; replicates are counted from 0, effects are in log odds."""

    effects: pl.DataFrame  # drug, shape, lag, effect: the true effect of the added dose
    responses: pl.DataFrame  # replicate, model, drug, lag, response: the learned effect
    gradients: pl.DataFrame  # replicate, model, lag, norm, relative (to lag 0)
    scores: pl.DataFrame  # see ``oracle_bound.summarize_scores``
    comparisons: pl.DataFrame  # see ``oracle_bound.compare_log_losses``
    about: dict[str, Any]
    """models ({name: family}), highlighted_models, baseline, gradient_lag, dose, confidence,
    resamples, seeds, trials, long_stays, subjects, step_hours, titles."""
    example_stay: ExampleStay | None = None

    def save(self, folder: Path) -> None:
        """Write the frames as Parquet and the rest as JSON into an existing folder."""
        for name in _FRAMES:
            getattr(self, name).write_parquet(folder / f"{name}.parquet")
        facts: dict[str, Any] = {"about": self.about, "example_stay": None}
        stay = self.example_stay
        if stay:
            facts["example_stay"] = {"model": stay.model, "stay_id": stay.stay_id}
            for name in _STAY_FRAMES:
                getattr(stay, name).write_parquet(folder / f"stay_{name}.parquet")
        write_json(folder / "about.json", facts)

    @classmethod
    def load(cls, folder: Path) -> MemoryReport:
        """The report written by :meth:`save`."""
        facts = read_json(folder / "about.json")
        frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in _FRAMES}
        stay = None
        if facts["example_stay"]:
            stay_frames: dict[str, Any] = {
                name: pl.read_parquet(folder / f"stay_{name}.parquet") for name in _STAY_FRAMES
            }
            stay = ExampleStay(**facts["example_stay"], **stay_frames)
        return cls(**frames, about=facts["about"], example_stay=stay)

    @property
    def titles(self) -> dict[str, str]:
        """What people call each model; reports of earlier releases: by its name."""
        return dict(self.about.get("titles", {}))

    def with_titles(self) -> MemoryReport:
        """The same with the models' titles in place of their names, for people to read."""
        titles = self.titles
        about = self.about

        def rename(frame: pl.DataFrame) -> pl.DataFrame:
            columns = [name for name in ("model", "first", "second") if name in frame.columns]
            return frame.with_columns(pl.col(columns).replace(titles))

        def title(name: str) -> str:
            return titles.get(name, name)

        stay = self.example_stay
        return replace(
            self,
            **{name: rename(getattr(self, name)) for name in _FRAMES},
            about=about
            | {
                "models": {title(name): family for name, family in about["models"].items()},
                "highlighted_models": list(map(title, about["highlighted_models"])),
                "baseline": title(about["baseline"]),
            },
            example_stay=replace(stay, model=title(stay.model)) if stay else None,
        )

    @property
    def step_unit(self) -> str:
        """The plural name of a step, for axes."""
        hours = self.about["step_hours"]
        return {1: "Hours", 24: "Days"}.get(hours, f"Steps of {hours:g} h")

    @property
    def models(self) -> list[str]:
        """The models' names, the lowest log loss first, without the oracle."""
        ranked = self.scores["model"].unique(maintain_order=True).to_list()
        return [model for model in ranked if model != ORACLE]

    @cached_property
    def mean_responses(self) -> pl.DataFrame:
        """(model, drug, lag, response, low, high): means and intervals over replicates."""
        grouped = self.responses.group_by("model", "drug", "lag", maintain_order=True).agg(
            "response"
        )
        confidence = self.about["confidence"]
        intervals = [estimate_mean(values, confidence) for values in grouped["response"]]
        columns = zip(("response", "low", "high"), zip(*intervals, strict=True), strict=True)
        return grouped.with_columns(**{name: pl.Series(values) for name, values in columns})

    @cached_property
    def distances(self) -> pl.DataFrame:
        """(model, drug, distance): root mean square error of the learned effect over lags."""
        joined = self.mean_responses.join(self.effects, on=["drug", "lag"])
        distance = (pl.col("response") - pl.col("effect")).pow(2).mean().sqrt()
        return joined.group_by("model", "drug", maintain_order=True).agg(distance=distance)

    @cached_property
    def memoryless_models(self) -> list[str]:
        """Models whose response is exactly 0 after lag 0, in every stay and replicate."""
        later = self.responses.filter(pl.col("lag") > 0).group_by("model", maintain_order=True)
        largest = dict(later.agg(pl.col("response").abs().max()).iter_rows())
        return [model for model in self.models if largest.get(model) == 0]

    def gradient_ratios(self, lag: int) -> dict[tuple[str, str], list[float]]:
        """For pairs of recurrent models, the first one's relative gradient over the second one's.

        One ratio a replicate.
        """
        at_lag = self.gradients.filter(lag=lag).sort("replicate")
        relative = {
            str(model): rows["relative"].to_list()
            for (model,), rows in at_lag.group_by("model", maintain_order=True)
        }
        return {
            (a, b): [
                x / y if y else float("inf") for x, y in zip(relative[a], relative[b], strict=True)
            ]
            for a in relative
            for b in relative
            if a != b
        }
