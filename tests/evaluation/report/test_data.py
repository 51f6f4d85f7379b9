"""The task and the protocol in words."""

import pytest

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.report.data import describe_protocol, describe_task


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (
            {"step_hours": 1, "horizon": 6},
            "every hour of a stay: will the patient be septic at some time in the next 6 hours?",
        ),
        (
            {"target": "onset"},
            "become septic for the first time at some time in the next 24 hours?",
        ),
        (
            {"horizon": 0, "cutoff_hours": 8},
            "8 h into it: will the patient be septic at some time in the remaining 16 hours?",
        ),
    ],
)
def test_the_task_in_a_sentence(task, text):
    assert text in describe_task(TaskConfig(name="t", **task))


@pytest.mark.parametrize(
    ("evaluation", "text"),
    [
        (
            {"protocol": "temporal", "test": 0.3},
            "the 30% most recent subjects are held out. Of the others, 16% of all subjects",
        ),
        (
            {"protocol": "cross_validation", "repeats": 3},
            "split into 5 folds, 3 times at random, and every subject",
        ),
        (
            {"protocol": "site"},
            "each site in turn is predicted by models that were trained without it. Within each",
        ),
        (
            {"protocol": "site", "sites": ("A", "B")},
            "the subjects of A, B are held out. Of the others,",
        ),
    ],
)
def test_the_protocol_in_words(evaluation, text):
    assert text in describe_protocol(EvaluationConfig(name="e", **evaluation))
