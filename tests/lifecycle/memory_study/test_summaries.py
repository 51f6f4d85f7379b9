"""The findings in sentences follow from the results."""

from __future__ import annotations

import pytest

from flowsheet.lifecycle.memory_study.summaries import describe_findings, describe_setting
from tests.lifecycle.memory_study.helpers import make_memory_report


@pytest.mark.parametrize(
    "text",
    [
        "The log loss of lstm is lower than that of",
        "lstm reaches 25.0% of the difference in log loss between arx and the oracle",
        "3 steps back, the gradient of lstm is 72.9%",
        "a ratio of 27 (by replicate 27, 27)",
        "By construction, no earlier row is seen by arx",
    ],
)
def test_findings_follow_from_the_results(text: str):
    assert text in " ".join(describe_findings(make_memory_report()))


def test_the_setting_names_replicates_trials_and_subjects():
    setting = describe_setting(make_memory_report())
    assert "2 trials in 2 replicates" in setting
    assert "seeds 0, 1" in setting
    assert "held-out subjects (50, 50)" in setting


def test_one_replicate_is_not_listed():
    assert "one replicate" in " ".join(describe_findings(make_memory_report(1)))
