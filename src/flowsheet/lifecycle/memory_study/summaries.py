"""The findings of a memory study in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from flowsheet.evaluation.summaries import join_names
from flowsheet.lifecycle.memory_study.oracle_bound import SHARE
from flowsheet.lifecycle.memory_study.report_data import ExampleStay, MemoryReport


def describe_setting(report: MemoryReport) -> str:
    """How often the models were trained, and what the metrics are computed on."""
    about = report.about
    n_replicates, n_trials = len(about["seeds"]), about["trials"]
    replicates = "in one replicate"
    if n_replicates > 1:
        replicates = f"in {n_replicates} replicates, each with another ward, split and training"
    trials = "one trial" if n_trials == 1 else f"{n_trials} trials"
    seeds = ", ".join(map(str, about["seeds"]))
    subjects = ", ".join(f"{n:,}" for n in about["subjects"])
    return (
        f"Every model was tuned with {trials} {replicates} (seeds {seeds}); metrics are computed "
        f"on the held-out subjects ({subjects})."
    )


def describe_findings(report: MemoryReport) -> Iterator[str]:
    """The results of the study, one sentence each."""
    yield from report.comparisons["summary"].to_list()
    yield from _describe_shares(report)
    yield from _describe_gradients(report)
    if report.memoryless_models:
        yield (
            f"By construction, no earlier row is seen by {join_names(report.memoryless_models)}: "
            "after the step of a dose the response is exactly 0."
        )


def _describe_shares(report: MemoryReport) -> Iterator[str]:
    """The share of the oracle bound of the first highlighted model and of the best one."""
    shares = report.scores.filter(metric=SHARE)
    models = [*report.about["highlighted_models"][:1], *report.models[:1]]
    for model in dict.fromkeys(models):
        row = shares.filter(model=model).row(0, named=True)
        yield (
            f"{model} reaches {row['value']:.1%} of the difference in log loss between "
            f"{report.about['baseline']} and the oracle "
            f"({_list_replicates(row['values'], '.1%')})."
        )


def _describe_gradients(report: MemoryReport) -> Iterator[str]:
    """The LSTM's relative gradient compared with that of the other recurrent models."""
    lag = report.about["gradient_lag"]
    at_lag = report.gradients.filter(lag=lag)
    for (a, b), ratios in report.gradient_ratios(lag).items():
        if a == report.titles.get("lstm", "lstm"):
            relative_a, relative_b = (_mean_relative(at_lag, model) for model in (a, b))
            yield (
                f"{lag} steps back, the gradient of {a} is {relative_a:.1%} and that of {b} "
                f"{relative_b:.2%} of its size at lag 0: a ratio of {_geometric_mean(ratios):.3g} "
                f"({_list_replicates(ratios, '.3g')})."
            )


def _mean_relative(gradients: pl.DataFrame, model: str) -> float:
    return float(str(gradients.filter(model=model)["relative"].mean()))


def _list_replicates(values: Sequence[float], form: str) -> str:
    if len(values) == 1:
        return "one replicate"
    return "by replicate " + ", ".join(format(value, form) for value in values)


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(float(np.mean(np.log(values))))


def describe_curve(truth: pl.DataFrame) -> str:
    """When a drug acts in the data-generating process."""
    size = truth["effect"].abs()
    if not size.max():
        return "In truth it has no effect."
    peak = int(size.arg_max() or 0)
    lags = truth["lag"].filter(size > size[peak] / 2).to_list()
    return (
        f"The true effect is largest at lag {peak}, {truth['effect'][peak]:+.1f}, and larger than "
        f"half of that at lags {lags[0]} to {lags[-1]}."
    )


def describe_gates(stay: ExampleStay) -> str:
    """What the gates of the example stay keep and let in."""
    means = {row["gate"]: row for row in stay.gates.group_by("gate").mean().iter_rows(named=True)}
    mean_forget, high_forget = means["forget"]["mean"], means["forget"]["high"]
    half_life = math.log(0.5) / math.log(high_forget)
    return (
        f"The forget gates keep {mean_forget:.0%} of the cell from step to step on average, and "
        f"{high_forget:.0%} or more in a tenth of the units (a half-life of {half_life:.0f} "
        f"steps); the input gates let in {means['input']['mean']:.0%}. In the cell, a colour that "
        "persists is a memory that persists."
    )
