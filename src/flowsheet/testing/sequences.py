"""Sequences for tests of models: toy stays that every model can learn from, and given inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flowsheet.cohort.time_grid import row_offsets
from flowsheet.typing import AnyArray, Bools, Floats, Floats32, Ints32
from flowsheet.windows.sequences import Feature, Sequences

FEATURES = (
    Feature("hr", "value", "hr"),
    Feature("lactate", "value", "lactate"),
    Feature("never_measured", "value", "never_measured"),
    Feature("hr_missing", "missing", "hr"),
    Feature("lactate_missing", "missing", "lactate"),
    Feature("never_measured_missing", "missing", "never_measured"),
    Feature("lactate_since", "since", "lactate"),
    Feature("dose", "treatment", "dose"),
    Feature("age", "static", "age"),
    Feature("same_for_all", "static", "same_for_all"),
    Feature("hours", "time", "hours"),
)
LAGS = 3


def toy_sequences(stays: int, seed: int, raw: bool) -> Sequences:
    """Stays of 1 to 12 steps from which every model family can learn; subjects have two stays each.

    The next state depends on the state, the values and the dose. One column is always missing and
    one is constant. The arrays are read-only.

    Args:
        stays: The number of stays.
        seed: The seed of all random numbers.
        raw: In natural units with NaN for missing values; otherwise scaled and without NaN.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 13, stays)
    offsets = row_offsets(lengths)
    step = np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32)
    rows = len(step)
    hr, lactate = rng.normal(size=rows), rng.normal(size=rows)
    dose = rng.binomial(1, 0.2, rows) * 1.0
    state = np.zeros(rows + 1)
    for k in range(rows):
        previous = state[k] if step[k] > 1 else 0.0
        negative_logit = 2 - 1.5 * hr[k] - 3 * previous + 1.5 * dose[k]
        state[k + 1] = rng.random() < 1 / (1 + np.exp(negative_logit))
    history = np.stack(
        [np.where(step > lag, np.roll(state[:-1], lag), np.nan) for lag in range(LAGS)], axis=1
    )
    history[step == 1, 0] = 0.0
    age = np.repeat(rng.normal(size=stays), lengths)
    x = _inputs(rng, np.stack([hr, lactate, dose, age]), step, raw)
    scored = rng.random(rows) < 0.85
    arrays: dict[str, Any] = {
        "x": x,
        "y": state[1:].astype(np.int8),
        "scored": scored,
        "in_state": history[:, 0] == 1,
        "history": history.astype(np.float32),
        "step": step,
        "offsets": offsets,
        "stay_id": np.arange(stays, dtype=np.int64) + 10,
        "subject_id": np.arange(stays, dtype=np.int64) // 2 * 2 + 100,
        "before_treatment": step <= 2,
        "weight": scored.astype(np.float64),
    }
    for array in arrays.values():
        array.flags.writeable = False
    return Sequences(**arrays, features=FEATURES)


def plain_sequences(
    x: AnyArray, y: AnyArray, history: AnyArray | None = None, length: int = 1
) -> Sequences:
    """Sequences of given inputs: every row is scored, and every stay has its own subject.

    Args:
        x: Inputs, shape (N, F).
        y: The response, 0 or 1, shape (N,).
        history: Earlier responses, shape (N, P); None: no columns.
        length: Rows of each stay; the last one may be shorter.
    """
    rows = len(y)
    offsets = np.append(np.arange(0, rows, length), rows).astype(np.int64)
    if history is None:
        history = np.empty((rows, 0))
    return Sequences(
        x=x.astype(np.float32),
        y=y.astype(np.int8),
        scored=np.ones(rows, dtype=bool),
        in_state=np.zeros(rows, dtype=bool),
        history=history.astype(np.float32),
        step=(np.arange(rows) % length + 1).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(len(offsets) - 1),
        subject_id=np.arange(len(offsets) - 1),
        features=tuple(Feature(f"x{j}", "value", f"x{j}") for j in range(x.shape[1])),
    )


def _inputs(rng: np.random.Generator, signals: Floats, step: Ints32, raw: bool) -> Floats32:
    """The columns of ``FEATURES``, shape (N, F)."""
    hr, lactate, dose, age = signals
    rows = len(hr)
    hr_missing = rng.random(rows) < 0.1
    lactate_missing = rng.random(rows) < 0.6
    since = np.where(lactate_missing, rng.integers(1, 9, rows), 0.0)
    if raw:
        hr = np.where(hr_missing, np.nan, 90 + 15 * hr)
        lactate = np.where(lactate_missing & (since > 6), np.nan, np.exp(lactate))
        age = 60 + 15 * age
        never_measured = np.full(rows, np.nan)
        same_for_all = np.full(rows, 7.0)
        hours = step * 1.0
    else:
        hr = hr * ~hr_missing
        lactate = lactate * ~lactate_missing
        since = (since - 3) / 3
        never_measured = np.zeros(rows)
        same_for_all = np.zeros(rows)
        hours = step * 0.2
    columns = [
        *(hr, lactate, never_measured),
        *(hr_missing, lactate_missing, np.ones(rows)),
        *(since, dose, age, same_for_all, hours),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def scramble(sequences: Sequences, rows: Bools) -> Sequences:
    """Other inputs, history and y in the chosen rows."""
    rng = np.random.default_rng(5)
    x, history = np.array(sequences.x), sequences.history.copy()
    x[rows] = rng.permutation(x[rows]) * 2 + 1
    history[rows] = rng.integers(0, 2, history[rows].shape)
    y = np.where(rows, 1 - sequences.y, sequences.y).astype(np.int8)
    return replace(sequences, x=x, history=history, y=y)
