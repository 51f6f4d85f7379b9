"""The definitions again, read word by word for one row at a time: slow, and obviously so."""

import math

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.testing.tables import DRUGS, EPOCH, VARIABLES, random_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary

NAN, CARRY = math.nan, 10.0
AGGREGATIONS = {
    "mean": lambda values: sum(values) / len(values) if values else NAN,
    "min": lambda values: min(values, default=NAN),
    "max": lambda values: max(values, default=NAN),
    "count": len,
}
FEATURES = FeaturesConfig(
    name="f",
    aggregations=("last", *AGGREGATIONS),
    carry_forward_hours=CARRY,
    statics=(),
    time=False,
)


def hours(rows):
    """Rows as dictionaries, times in hours."""
    return [
        {k: (v - EPOCH).total_seconds() / 3600 if hasattr(v, "hour") else v for k, v in row.items()}
        for row in rows.iter_rows(named=True)
    ]


class Row:
    """One step of one stay, as the definitions read."""

    def __init__(self, task, stay, k, first):
        self.task, self.k, self.first, self.stay = task, k, first, stay
        self.predicted = self.p(k)
        self.since = -math.inf if first == k else self.p(k - 1)
        self.window_end = self.t(k + task.horizon)

    def t(self, k):
        return self.stay["admitted_at"] + k * self.task.step_hours

    def p(self, k):
        return self.t(k) if self.task.horizon else self.t(k - 1) + self.task.cutoff_hours

    def arrives(self, fact, start):
        return self.since < max(fact[start], fact["known_at"]) <= self.predicted

    def value(self, events):
        now = sorted(
            (e for e in events if e["known_at"] <= self.predicted),
            key=lambda e: (e["time"], e["known_at"]),
        )
        fresh = [e["value"] for e in events if self.arrives(e, "time")]
        latest = now[-1] if now else None
        valid = latest and (
            self.predicted - latest["time"] <= CARRY or latest["time"] > self.p(self.k - 1)
        )
        told = {how: aggregate(fresh) for how, aggregate in AGGREGATIONS.items()}
        return {
            "last": latest["value"] if valid else NAN,
            **told,
            "missing": not fresh,
            "since": self.predicted - latest["time"] if latest else NAN,
        }

    def treatment(self, exposures):
        def given_by(exposure, time):
            if max(exposure["start"], exposure["known_at"]) > time:
                return 0.0
            duration = exposure["end"] - exposure["start"]
            return (exposure["dose"] or 0.0) * (
                min(exposure["end"], time) - exposure["start"] if duration else 1.0
            )

        known = [e for e in exposures if max(e["start"], e["known_at"]) <= self.predicted]
        return {
            "on": any(self.arrives(e, "start") or e["end"] > self.since for e in known),
            "dose": sum(given_by(e, self.predicted) - given_by(e, self.since) for e in known),
            "since": min(
                (self.predicted - min(e["end"], self.predicted) for e in known), default=NAN
            ),
        }

    def targets(self, episodes):
        now, end, left = self.predicted, self.window_end, self.stay["discharged_at"]
        onsets = [e["onset"] for e in episodes]
        first = min(onsets, default=math.inf)
        state = [e for e in episodes if e["onset"] <= end and over(e) > now]
        y = bool(state) if self.task.response == "state" else now < first <= end
        at_risk = self.task.response == "state" or now < first
        seen = (
            any(e["onset"] <= left for e in state)
            if self.task.response == "state"
            else y and first <= left
        )
        whole = self.task.censor == "keep" or end <= left or seen
        present = (self.stay["observed_from"] or self.stay["admitted_at"]) <= now <= left
        return y, at_risk and whole and present, any(e["onset"] <= now < over(e) for e in episodes)

    def history(self, episodes, lag):
        if self.k - lag < self.first:
            return NAN
        begin, end = self.t(self.k - lag - 1), min(self.t(self.k - lag), self.predicted)
        known = [e for e in episodes if e["known_at"] <= self.predicted]
        if self.task.response == "onset":
            return any(begin < e["onset"] <= end for e in known)
        return any(e["onset"] <= end and over(e) > begin for e in known)


def over(episode):
    return math.inf if episode["end"] is None else episode["end"]


def rows_of(stay, task):
    start = stay["observed_from"] if stay["observed_from"] is not None else stay["admitted_at"]
    first = math.floor((start - stay["admitted_at"]) / task.step_hours) + 1
    steps = math.ceil((stay["discharged_at"] - stay["admitted_at"]) / task.step_hours)
    return [Row(task, stay, k, first) for k in range(first, steps + 1)]


tasks = st.builds(
    TaskConfig,
    name=st.just("t"),
    step_hours=st.sampled_from([4, 24]),
    horizon=st.integers(1, 3),
    response=st.sampled_from(["state", "onset"]),
    censor=st.sampled_from(["keep", "drop"]),
    history_lags=st.just(3),
) | st.builds(
    TaskConfig,
    name=st.just("t"),
    step_hours=st.just(12),
    horizon=st.just(0),
    cutoff_hours=st.sampled_from([0.25, 5, 11.75]),
    response=st.sampled_from(["state", "onset"]),
    censor=st.sampled_from(["keep", "drop"]),
    history_lags=st.just(3),
)


@settings(max_examples=50, deadline=None)
@given(random_tables(max_stays=2), tasks)
def test_every_number_is_as_defined(tables, task):
    made = build_sequences(tables, task, FEATURES, VARIABLES, DRUGS, collect_vocabulary(tables))
    position = {feature.name: i for i, feature in enumerate(made.features)}
    at = 0
    for stay in hours(tables.stays.sort("stay_id")):
        own = pl.col("stay_id") == stay["stay_id"]
        events, treatments, episodes = (
            hours(t.filter(own)) for t in (tables.events, tables.treatments, tables.episodes)
        )
        for row in rows_of(stay, task):
            expected = {}
            for v in VARIABLES:
                told = row.value([e for e in events if e["variable"] == v])
                expected |= {f"{v}_{what}": number for what, number in told.items()}
            for drug in DRUGS:
                told = row.treatment([e for e in treatments if e["drug"] == drug])
                expected |= {f"{drug}_{what}": number for what, number in told.items()}
            actual = {name: made.x[at, i] for name, i in position.items()}
            assert set(expected) == set(actual)
            for name, number in expected.items():
                np.testing.assert_allclose(
                    actual[name], number, rtol=1e-5, atol=1e-3, err_msg=f"{name} at {row.k}"
                )
            assert (made.y[at], made.scored[at], made.in_state[at]) == row.targets(episodes)
            np.testing.assert_array_equal(
                made.history[at], [float(row.history(episodes, lag)) for lag in range(3)]
            )
            assert made.step[at] == row.k
            at += 1
    assert at == made.rows
