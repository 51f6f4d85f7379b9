"""The flow of participants, from the raw records to the predictions that are evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flowsheet.cohort.responses.base import SEPSIS_WORDS, Words
from flowsheet.evaluation.study.facts import FlowStep, LeftOut
from flowsheet.windows.flow import EXCLUSIONS

STEPS = {
    "not_asked": "asked at another hour",
    "outside_stay": "still in the unit at the time of a prediction",
    "after_comfort_measures": "before comfort measures at the time of a prediction",
    "present_on_admission": "without {name} on admission",
    "after_onset": "before {first_onset} at the time of a prediction",
    "incomplete_window": "with a target window that is observed to its end",
}
"""Stays that remain, after a reason has left out the others."""

REASONS = {
    "not_asked": "the task asks once a stay, at another hour",
    "outside_stay": "before the record began, or after discharge or death",
    "after_comfort_measures": "after care was limited to comfort measures",
    "present_on_admission": "{name} was present on admission",
    "after_onset": "after {first_onset}",
    "incomplete_window": "the target window outlasts the stay",
}
"""Why predictions are not evaluated."""


def trace_stays(
    attrition: tuple[tuple[str, int], ...],
    n_stays: int,
    windows: Mapping[str, Any],
    words: Words = SEPSIS_WORDS,
) -> Iterator[FlowStep]:
    """The stays that are left after each step; the last ones have an evaluated prediction.

    Args:
        attrition: of the cohort, from its manifest.
        n_stays: of the extract.
        windows: the counts of ``lifecycle.experiment.prepare.summarise_windows``; older ones lack
            the reasons, whose steps are then missing.
        words: of the response.
    """
    for step, stays in attrition or (("in the extract", n_stays),):
        yield FlowStep(step=step, stays=stays)
    remaining = int(windows["stays"])
    if remaining != (attrition[-1][1] if attrition else n_stays):
        yield FlowStep(step="with a time step of the task", stays=remaining)
    for reason, counts in _list_counts(windows):
        if counts["stays"]:
            remaining -= counts["stays"]
            yield FlowStep(
                step=STEPS[reason].format(name=words.name, first_onset=words.first_onset),
                stays=remaining,
            )
    if "scored_stays" in windows:
        yield FlowStep(step="with an evaluated prediction", stays=windows["scored_stays"])


def list_left_out(windows: Mapping[str, Any], words: Words = SEPSIS_WORDS) -> Iterator[LeftOut]:
    """Why predictions, and all predictions of stays, are not evaluated."""
    for reason, counts in _list_counts(windows):
        if counts["rows"]:
            text = _describe(REASONS[reason], words)
            yield LeftOut(reason=text, rows=counts["rows"], stays=counts["stays"])


def _describe(text: str, words: Words) -> str:
    return text.format(name=words.name, first_onset=words.first_onset)


def _list_counts(windows: Mapping[str, Any]) -> list[tuple[str, Mapping[str, int]]]:
    """The counts of each reason in the order in which the reasons apply; JSON sorts by name."""
    counts = windows.get("left_out", {})
    names = [exclusion.name for exclusion in EXCLUSIONS]
    return [(name, counts[name]) for name in names if name in counts]
