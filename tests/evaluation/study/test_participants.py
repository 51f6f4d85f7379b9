"""The flow of participants adds up, down to the predictions that are evaluated."""

from flowsheet.evaluation.study.participants import (
    REASONS,
    STEPS,
    list_left_out,
    trace_stays,
)
from flowsheet.windows.flow import EXCLUSIONS

ATTRITION = (("in the raw tables", 140), ("adults", 132))
WINDOWS = {
    "stays": 132,
    "rows": 900,
    "scored_stays": 83,
    "left_out": {
        "outside_stay": {"rows": 132, "stays": 30, "subjects": 28},
        "after_comfort_measures": {"rows": 0, "stays": 0, "subjects": 0},
        "incomplete_window": {"rows": 110, "stays": 19, "subjects": 18},
    },
}


def test_the_flow_ends_with_the_stays_that_are_predicted_for():
    flow = [(step.step, step.stays) for step in trace_stays(ATTRITION, 132, WINDOWS)]
    assert flow == [
        *ATTRITION,
        ("still in the unit at the time of a prediction", 102),
        ("with a target window that is observed to its end", 83),
        ("with an evaluated prediction", 83),
    ]


def test_reasons_without_rows_are_left_out():
    reasons = [(entry.reason, entry.rows) for entry in list_left_out(WINDOWS)]
    assert reasons == [
        ("before the record began, or after discharge or death", 132),
        ("the target window outlasts the stay", 110),
    ]


def test_a_cohort_without_attrition_begins_with_its_stays():
    windows = {"stays": 10, "rows": 50}
    assert [step.stays for step in trace_stays((), 12, windows)] == [12, 10]
    assert list(list_left_out(windows)) == []


def test_the_steps_follow_the_reasons_whatever_the_order_of_the_counts():
    by_name = dict(sorted(WINDOWS["left_out"].items()))
    windows = {**WINDOWS, "left_out": by_name}
    assert list(by_name) != list(WINDOWS["left_out"])
    assert list(trace_stays(ATTRITION, 132, windows)) == list(trace_stays(ATTRITION, 132, WINDOWS))


def test_every_reason_has_its_words():
    names = {exclusion.name for exclusion in EXCLUSIONS}
    assert names == set(STEPS) == set(REASONS)
