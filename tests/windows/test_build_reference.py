"""A reference implementation of the definitions: one row at a time, slow and easy to check."""

import math

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.testing.tables import DRUGS, EPOCH, VARIABLES, random_tables
from flowsheet.windows.build import build_sequences, collect_vocabulary

NAN = math.nan
CARRY_FORWARD_HOURS = 10.0
AGGREGATIONS = {
    "mean": lambda values: sum(values) / len(values) if values else NAN,
    "min": lambda values: min(values, default=NAN),
    "max": lambda values: max(values, default=NAN),
    "count": len,
}
FEATURES = FeaturesConfig(
    name="f",
    aggregations=("last", *AGGREGATIONS),
    carry_forward_hours=CARRY_FORWARD_HOURS,
    statics=(),
    time=False,
)


def to_dictionaries(table):
    """The rows as dictionaries, with times in hours."""
    return [
        {name: _in_hours(value) for name, value in row.items()} for row in table.rows(named=True)
    ]


def _in_hours(value):
    is_time = hasattr(value, "hour")
    return (value - EPOCH).total_seconds() / 3600 if is_time else value


def never_if_none(time):
    return math.inf if time is None else time


def end_of(episode):
    return never_if_none(episode["end"])


def onset_of(episode, stay):
    """What was present on admission began at admission at the latest."""
    is_present = episode["present_on_admission"]
    return min(episode["onset"], stay["admitted_at"]) if is_present else episode["onset"]


class Row:
    """One step of one stay, straight from the definitions."""

    def __init__(self, task, stay, k, first):
        self.task = task
        self.stay = stay
        self.k = k
        self.first = first
        self.predicted_at = self.p(k)
        self.cell_start = -math.inf if first == k else self.p(k - 1)
        self.window_end = self.t(k + task.horizon)

    def t(self, k):
        return self.stay["admitted_at"] + k * self.task.step_hours

    def p(self, k):
        return self.t(k) if self.task.horizon else self.t(k - 1) + self.task.cutoff_hours

    def arrives(self, record, start):
        return self.cell_start < max(record[start], record["known_at"]) <= self.predicted_at

    def variable_features(self, events):
        known = [event for event in events if event["known_at"] <= self.predicted_at]
        known.sort(key=lambda event: (event["time"], event["known_at"]))
        latest = known[-1] if known else None
        age = self.predicted_at - latest["time"] if latest else NAN
        is_valid = latest and (age <= CARRY_FORWARD_HOURS or latest["time"] > self.p(self.k - 1))
        new_values = [event["value"] for event in events if self.arrives(event, "time")]
        aggregates = {how: aggregate(new_values) for how, aggregate in AGGREGATIONS.items()}
        return {
            "last": latest["value"] if is_valid else NAN,
            **aggregates,
            "missing": not new_values,
            "since": age,
        }

    def treatment_features(self, exposures):
        known = [
            exposure
            for exposure in exposures
            if max(exposure["start"], exposure["known_at"]) <= self.predicted_at
        ]
        is_on = [
            self.arrives(exposure, "start") or exposure["end"] > self.cell_start
            for exposure in known
        ]
        doses = [
            self.amount_until(exposure, self.predicted_at)
            - self.amount_until(exposure, self.cell_start)
            for exposure in known
        ]
        since = [self.predicted_at - min(exposure["end"], self.predicted_at) for exposure in known]
        return {"on": any(is_on), "dose": sum(doses), "since": min(since, default=NAN)}

    def amount_until(self, exposure, time):
        """What is known at that time to have been given."""
        if max(exposure["start"], exposure["known_at"]) > time:
            return 0.0
        is_infusion = exposure["end"] > exposure["start"]
        hours = min(exposure["end"], time) - exposure["start"] if is_infusion else 1.0
        return (exposure["dose"] or 0.0) * hours

    def targets(self, episodes):
        stay = self.stay
        record_start = stay["observed_from"] or stay["admitted_at"]
        end = min(stay["discharged_at"], never_if_none(stay["died_at"]))
        if self.task.end_at == "comfort_measures":
            end = min(end, never_if_none(stay["comfort_measures_at"]))
        in_state = any(
            onset_of(episode, stay) <= self.predicted_at < end_of(episode) for episode in episodes
        )
        if self.task.target == "state":
            in_window = [
                episode
                for episode in episodes
                if onset_of(episode, stay) <= self.window_end
                and end_of(episode) > self.predicted_at
            ]
            y = bool(in_window)
            is_at_risk = True
        else:
            onset = min((onset_of(episode, stay) for episode in episodes), default=math.inf)
            y = self.predicted_at < onset <= self.window_end
            is_new = not any(episode["present_on_admission"] for episode in episodes)
            is_at_risk = self.predicted_at < onset and is_new
        is_observed = self.task.censor == "keep" or self.window_end <= end
        is_present = record_start <= self.predicted_at <= end
        return y, is_at_risk and is_observed and is_present, in_state

    def history(self, episodes, lag):
        if self.k - lag < self.first:
            return NAN
        start = self.t(self.k - lag - 1)
        end = min(self.t(self.k - lag), self.predicted_at)
        known = [episode for episode in episodes if episode["known_at"] <= self.predicted_at]
        if self.task.target == "onset":
            return any(start < onset_of(episode, self.stay) <= end for episode in known)
        return any(
            onset_of(episode, self.stay) <= end and end_of(episode) > start for episode in known
        )


def rows_of(stay, task):
    observed_from = stay["observed_from"]
    record_start = stay["admitted_at"] if observed_from is None else observed_from
    first = math.floor((record_start - stay["admitted_at"]) / task.step_hours) + 1
    steps = math.ceil((stay["discharged_at"] - stay["admitted_at"]) / task.step_hours)
    return [Row(task, stay, k, first) for k in range(first, steps + 1)]


def expected_features(row, events, treatments):
    expected = {}
    for variable in VARIABLES:
        features = row.variable_features([e for e in events if e["variable"] == variable])
        expected |= {f"{variable}_{kind}": value for kind, value in features.items()}
    for drug in DRUGS:
        features = row.treatment_features([t for t in treatments if t["drug"] == drug])
        expected |= {f"{drug}_{kind}": value for kind, value in features.items()}
    return expected


tasks = st.builds(
    TaskConfig,
    name=st.just("t"),
    step_hours=st.sampled_from([4, 24]),
    horizon=st.integers(1, 3),
    target=st.sampled_from(["state", "onset"]),
    censor=st.sampled_from(["keep", "complete", "competing"]),
    end_at=st.sampled_from(["discharge", "comfort_measures"]),
    history_lags=st.just(3),
) | st.builds(
    TaskConfig,
    name=st.just("t"),
    step_hours=st.just(12),
    horizon=st.just(0),
    cutoff_hours=st.sampled_from([0.25, 5, 11.75]),
    target=st.sampled_from(["state", "onset"]),
    censor=st.sampled_from(["keep", "complete", "competing"]),
    end_at=st.sampled_from(["discharge", "comfort_measures"]),
    history_lags=st.just(3),
)


@settings(max_examples=50, deadline=None)
@given(random_tables(max_stays=2), tasks)
def test_every_number_equals_its_definition(tables, task):
    sequences = build_sequences(
        tables, task, FEATURES, VARIABLES, DRUGS, collect_vocabulary(tables)
    )
    position = {feature.name: i for i, feature in enumerate(sequences.features)}
    at = 0
    for stay in to_dictionaries(tables.stays.sort("stay_id")):
        is_in_stay = pl.col("stay_id") == stay["stay_id"]
        events = to_dictionaries(tables.events.filter(is_in_stay))
        treatments = to_dictionaries(tables.treatments.filter(is_in_stay))
        episodes = to_dictionaries(tables.episodes.filter(is_in_stay))
        for row in rows_of(stay, task):
            expected = expected_features(row, events, treatments)
            assert set(expected) == set(position)
            for name, value in expected.items():
                actual = sequences.x[at, position[name]]
                message = f"{name} at {row.k}"
                np.testing.assert_allclose(actual, value, rtol=1e-5, atol=1e-3, err_msg=message)
            targets = sequences.y[at], sequences.scored[at], sequences.in_state[at]
            assert targets == row.targets(episodes)
            history = [float(row.history(episodes, lag)) for lag in range(3)]
            np.testing.assert_array_equal(sequences.history[at], history)
            assert sequences.step[at] == row.k
            at += 1
    assert at == sequences.rows
