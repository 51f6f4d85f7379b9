"""Render the TRIPOD+AI checklist of a run as Markdown.

Collins et al., BMJ 2024;385:e078378, doi:10.1136/bmj-2023-078378. Every item has what the record
knows, what the authors must write, or both.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import yaml

from flowsheet.config import FrozenModel
from flowsheet.lifecycle.checklist import methods, results  # noqa: F401 - they register answers
from flowsheet.lifecycle.checklist.answers import ANSWERS
from flowsheet.lifecycle.checklist.record import StudyRecord, load_study_record

SOURCE = "Collins et al., BMJ 2024;385:e078378, doi:10.1136/bmj-2023-078378"
OPEN = "To be completed by the authors"


class Item(FrozenModel):
    """One item of the statement."""

    number: str
    title: str
    answers: tuple[str, ...] = ()
    """Names of functions in ``ANSWERS``."""
    question: str = ""
    """What the authors must write; empty where the record answers the item."""


class Section(FrozenModel):
    """The items of one section of a paper."""

    section: str
    items: tuple[Item, ...]


@lru_cache(maxsize=1)
def load_items() -> tuple[Section, ...]:
    """The items of the statement, in order."""
    text = (files("flowsheet.lifecycle.checklist") / "items.yaml").read_text(encoding="utf-8")
    return tuple(Section.model_validate(section) for section in yaml.safe_load(text))


def render_checklist(reference: str) -> str:
    """The checklist of a run as Markdown.

    ``reference`` is a run id, ``NAME/VERSION`` or ``NAME@ALIAS``.

    Raises:
        UsageError: there is no such run.
        CheckFailed: the run has no evidence, or was recorded by an earlier release.
    """
    with tempfile.TemporaryDirectory() as folder:
        return render(load_study_record(reference, Path(folder)))


def render(record: StudyRecord) -> str:
    """The checklist of a loaded record."""
    blocks = [f"# TRIPOD+AI checklist: {record.run.experiment}", _describe_origin(record)]
    for section in load_items():
        blocks.append(f"## {section.section}")
        for item in section.items:
            blocks += [f"### {item.number}. {item.title}", *_answer(item, record)]
    return "\n\n".join(blocks) + "\n"


def _describe_origin(record: StudyRecord) -> str:
    return (
        f"Items of TRIPOD+AI ({SOURCE}), filled from the record of run `{record.run.run_id}`. "
        f'Paragraphs that begin with "{OPEN}" are open. Text from the record is a draft: check it, '
        "and add the page of the paper."
    )


def _answer(item: Item, record: StudyRecord) -> list[str]:
    """What the record knows, then what is open; an item is never left empty."""
    answers = [answer for name in item.answers if (answer := ANSWERS[name](record))]
    if item.question or not answers:
        question = item.question or "The record does not answer this item."
        answers.append(f"**{OPEN}:** {question}")
    return answers
