"""The registry of answers: what the record says about an item of the checklist."""

from __future__ import annotations

from collections.abc import Callable

from flowsheet.lifecycle.checklist.record import StudyRecord

Answer = Callable[[StudyRecord], str]
"""Sentences or tables as Markdown; empty where the record says nothing."""

ANSWERS: dict[str, Answer] = {}
"""Every answer, by the name of its function; items.yaml refers to them."""


def register(answer: Answer) -> Answer:
    """Register an answer under the name of its function."""
    ANSWERS[answer.__name__] = answer
    return answer
