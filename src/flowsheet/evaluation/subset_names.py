"""How reports, gates and cards name the subsets of rows, in the response's own words."""

from __future__ import annotations

from flowsheet.cohort.responses.base import Words
from flowsheet.evaluation.subsets import ALL, BEFORE_TREATMENT, NEW_ONSETS, STAYS, TIME_GROUPING


def describe_subset(subset: str, words: Words) -> str:
    """The subset of a metric within a sentence; empty for all rows and subgroups.

    >>> from flowsheet.cohort.responses.base import find_words
    >>> describe_subset("new_onsets", find_words("aki"))
    ' among patients not yet in kidney injury'
    """
    phrases = {
        NEW_ONSETS: f" among patients {words.not_yet}",
        BEFORE_TREATMENT: " before treatment",
        STAYS: " per stay",
    }
    return phrases.get(subset, "")


def describe_group(subset: str) -> str:
    """A subgroup within a sentence.

    >>> describe_group("age: 80 and over"), describe_group("hours since admission: 48")
    ('age 80 and over', 'predictions 48 hours after admission')
    """
    grouping, _, group = subset.partition(": ")
    if grouping == TIME_GROUPING:
        return f"predictions {group} hours after admission"
    return f"{grouping.replace('_', ' ')} {group}"


def list_subset_titles(words: Words) -> dict[str, str]:
    """The title of each subset but subgroups, in the order in which they are shown."""
    return {
        ALL: "All rows",
        NEW_ONSETS: f"New onsets (patients not {words.state} at prediction)",
        BEFORE_TREATMENT: "Before treatment (no anti-infective known at prediction)",
        STAYS: f"Per stay (the highest probability before {words.first_onset})",
    }
