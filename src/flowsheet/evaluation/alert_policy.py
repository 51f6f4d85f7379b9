"""The alert policy of a model: from which risk on there is an alert, and when it is silenced.

A row *has an alert* where its risk reaches the threshold. An alert is *raised* where none of the
same stay has silenced it:

- none was raised in the ``silence_hours`` before (exactly so long after it, the next may be);
- none was acknowledged in the ``acknowledged_hours`` before;
- in the 24 hours before there were fewer than ``max_alerts_per_day``.

So whether an alert is raised depends on the earlier risks of the stay, and on no later one. A task
that asks once a stay has nothing to silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import model_validator

from flowsheet.config import AlertingConfig, FrozenModel, TaskConfig, ThresholdBy
from flowsheet.typing import AnyArray, Bools, Floats

NEVER_ALERT = float(np.nextafter(1.0, 2.0))
"""A threshold that no probability reaches."""
DAY = 24.0
"""Hours."""
_TOLERANCE = 1e-6
"""Hours by which rounding may shorten a silence."""


class AlertPromise(FrozenModel):
    """What a policy promises, and what the validation subjects say of it."""

    kind: ThresholdBy
    target: float
    confidence: float
    is_made: bool
    """Whether a threshold was found that keeps it with that confidence; else nothing is promised,
    and the threshold is the one whose estimate comes up to the target."""
    estimate: float | None
    """Of the validation subjects at the threshold; None: not defined."""
    bound: float | None
    """The one-sided bound of the estimate, at the level that the threshold was tested at."""
    subjects: int
    """Validation subjects that it rests on: with an alert, an onset, or a row."""


class AlertPolicy(FrozenModel):
    """From which risk on a row has an alert, how that was chosen, and which alerts are raised."""

    threshold: float
    maximizes: Literal["f_measure", "normalised_utility", "found_onsets"] | None = None
    """What the threshold maximizes; None: it keeps a promise, or was given."""
    subset: str = "all"
    """The rows that it was chosen on: ``new_onsets`` or ``all`` (see ``subsets``)."""
    silence_hours: float = 0.0
    acknowledged_hours: float | None = None
    max_alerts_per_day: int | None = None
    promise: AlertPromise | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_earlier(cls, values: Any) -> Any:
        """Packages of earlier releases have the threshold alone."""
        if isinstance(values, Mapping) and "value" in values:
            others = {key: value for key, value in values.items() if key != "value"}
            return {"threshold": values["value"], **others}
        return values

    @classmethod
    def from_config(cls, config: AlertingConfig, threshold: float, **chosen: Any) -> AlertPolicy:
        """The policy of a configuration with a threshold, and how that was chosen."""
        return cls(
            threshold=threshold,
            silence_hours=config.silence_hours,
            acknowledged_hours=config.acknowledged_hours,
            max_alerts_per_day=config.max_alerts_per_day,
            **chosen,
        )

    def find_alerts(self, risk: Floats) -> Bools:
        """Which rows have an alert, shape of ``risk``."""
        return np.asarray(risk >= self.threshold)

    def has_silence(self, task: TaskConfig) -> bool:
        """Whether an alert can silence the next row of its stay."""
        if task.at_hours is not None:
            return False
        longest = max(self.silence_hours, self.acknowledged_hours or 0.0)
        per_day = DAY / task.step_hours
        has_cap = self.max_alerts_per_day is not None and self.max_alerts_per_day < per_day
        return longest > task.step_hours or has_cap


def make_policies(thresholds: Mapping[str, float]) -> dict[str, AlertPolicy]:
    """Policies of these thresholds by model, without silence or promise."""
    return {model: AlertPolicy(threshold=value) for model, value in thresholds.items()}


def raise_alerts(
    policy: AlertPolicy,
    task: TaskConfig,
    stay: AnyArray,
    step: AnyArray,
    risk: Floats,
    *,
    acknowledged: pl.DataFrame | None = None,
) -> Bools:
    """Which rows raise an alert, shape (N,).

    Args:
        policy: the policy.
        task: its steps.
        stay: (N,) the stay of each row; the rows of a stay are neighbours.
        step: (N,) k, ascending within a stay.
        risk: (N,) predicted probabilities.
        acknowledged: ``stay`` and ``hours`` since admission at which somebody acknowledged an
            alert; None: every alert is acknowledged at once.
    """
    is_alert = policy.find_alerts(risk)
    hours = np.asarray(step, np.float64) * task.step_hours
    silence = policy.silence_hours
    if acknowledged is None:
        silence = max(silence, policy.acknowledged_hours or 0.0)
    elif policy.acknowledged_hours is not None:
        is_alert &= ~_is_acknowledged(stay, hours, acknowledged, policy.acknowledged_hours)
    if not policy.has_silence(task):
        return is_alert
    rows = np.flatnonzero(is_alert)
    raised = np.zeros(len(is_alert), np.bool_)
    is_new = np.append(True, stay[1:] != stay[:-1])[: len(stay)]
    number = np.cumsum(is_new) - 1  # of the stay, from 0 on
    raised[rows[_thin_out(number[rows], hours[rows], silence, policy.max_alerts_per_day)]] = True
    return raised


def _thin_out(stay: AnyArray, hours: Floats, silence: float, per_day: int | None) -> AnyArray:
    """Positions of the alerts that are raised, from the first of each stay on.

    All stays go on to their next alert together.

    Args:
        stay: (n,) numbers of the stays, ascending.
        hours: (n,) times of the alerts, ascending within a stay.
        silence: hours after an alert without another.
        per_day: alerts of a stay in any 24 hours; None: any number.
    """
    if not len(stay):
        return np.zeros(0, np.int64)
    longest = float(hours.max() - hours.min()) + DAY
    silence = min(silence, longest)  # it may be infinite
    span = 2 * longest + DAY
    key = stay * span + (hours - hours.min())
    current = np.flatnonzero(np.append(True, stay[1:] != stay[:-1]))
    last_hours = np.full((len(current), per_day or 1), -np.inf)
    raised = []
    while len(current):
        raised.append(current)
        last_hours = np.roll(last_hours, -1, axis=1)
        last_hours[:, -1] = hours[current]
        allowed = hours[current] + silence
        if per_day is not None:
            allowed = np.maximum(allowed, last_hours[:, 0] + DAY)
        wanted = stay[current] * span + (allowed - hours.min()) - _TOLERANCE
        following = np.maximum(np.searchsorted(key, wanted), current + 1)
        is_left = following < len(stay)
        is_left &= stay[np.minimum(following, len(stay) - 1)] == stay[current]
        current, last_hours = following[is_left], last_hours[is_left]
    return np.sort(np.concatenate(raised))


def _is_acknowledged(
    stay: AnyArray, hours: Floats, acknowledged: pl.DataFrame, silence: float
) -> Bools:
    """Which rows come less than ``silence`` hours after an acknowledgement of their stay."""
    rows = pl.DataFrame({"stay": stay, "hours": hours}).with_row_index()
    until = pl.col("hours_acknowledged") + silence - _TOLERANCE
    is_after = pl.col("hours_acknowledged") <= pl.col("hours")
    silenced = rows.join(acknowledged, on="stay", suffix="_acknowledged").filter(
        is_after, pl.col("hours") < until
    )
    mask = np.zeros(len(hours), np.bool_)
    mask[silenced["index"].to_numpy()] = True
    return mask
