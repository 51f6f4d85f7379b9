"""Which of a server's answers count.

A client asks again and again about a stay, and every answer has all steps of the stay so far. A
step counts once: by the last answer that was given before a later step of the stay was answered,
which is what stood on the screen until then; a step that was never answered without a later one
counts by its first answer. Shadow answers are those to the requests of the answers that count.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from flowsheet.errors import UsageError, did_you_mean
from flowsheet.serving.answer_files import ANSWERS, read_answers

RULE = (
    "Of several answers for a step of a stay, the last one before a later step of the stay was "
    "answered counts, or else the first."
)
_STAYS_PER_BATCH = 20_000
_REQUEST = ["stay_id", "answered_at", "request_id"]
_STEP = ["stay_id", "time"]


@dataclass(frozen=True)
class ChosenAnswers:
    """The answers of one model that count, and those of its shadows to the same requests."""

    model: str
    answers: pl.DataFrame
    """Columns ``ANSWERS``, one row for each step of a stay."""
    shadows: pl.DataFrame
    """Columns ``ANSWERS``, one row for each step of a stay and shadow version."""
    given: pl.DataFrame
    """version, answers: rows in the files that were answered."""
    last_times: pl.DataFrame
    """stay_id, last_time: the latest time of prediction that was answered."""


def choose_answers(folder: Path, model: str | None = None) -> ChosenAnswers:
    """The answers that count.

    Args:
        folder: where servers kept them.
        model: registered name; by default the only one.

    Raises:
        UsageError: the folder has no answers of the model, or answers of several.
        CheckFailed: there are no answers, or a file cannot be read.
    """
    name = _find_model(folder, model)
    batches = [_choose(batch) for batch in _iter_batches(folder, name)]
    parts = [pl.concat(part) for part in zip(*batches, strict=True)]
    answers, shadows, given, last_times = parts
    return ChosenAnswers(
        name,
        answers.sort("version", *_STEP),
        shadows.sort("version", *_STEP),
        given.group_by("version").agg(pl.col("answers").sum()).sort("version"),
        last_times,
    )


def _find_model(folder: Path, model: str | None) -> str:
    found = read_answers(folder, lambda answers: answers.select(pl.col("model").unique().sort()))
    names = found["model"].to_list()
    if model is not None and model not in names:
        raise UsageError(
            f"the folder has no answers of {model!r}",
            where=str(folder),
            todo=did_you_mean(model, names),
        )
    if model is None and len(names) != 1:
        raise UsageError(
            f"the folder has answers of several models: {', '.join(names)}",
            where=str(folder),
            todo="choose one with --model",
        )
    return model or str(names[0])


def _iter_batches(folder: Path, model: str) -> Iterator[pl.DataFrame]:
    """The model's answers to some stays at a time, so that memory does not grow with time."""
    of_model = pl.col("model") == model
    stays = read_answers(
        folder, lambda answers: answers.filter(of_model).select(pl.col("stay_id").unique().sort())
    )
    for batch in stays.iter_slices(_STAYS_PER_BATCH):
        ids = batch["stay_id"]
        is_chosen = of_model & pl.col("stay_id").is_between(ids.min(), ids.max())
        yield read_answers(folder, operator.methodcaller("filter", is_chosen))


def _choose(rows: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """(answers, shadows, given, last_times) of some stays."""
    rows = rows.unique(maintain_order=True)  # a file may be there twice
    answers = rows.filter(~pl.col("is_shadow"))
    requests = (
        answers.group_by(_REQUEST)
        .agg(newest=pl.col("time").max())
        .sort(_REQUEST)
        .with_columns(newest_so_far=pl.col("newest").cum_max().over("stay_id"))
    )
    ordered = answers.join(requests, on=_REQUEST).sort(*_STEP, *_REQUEST, "risk")
    is_newest = pl.col("time") >= pl.col("newest_so_far")
    on_screen = ordered.filter(is_newest).unique(_STEP, keep="last", maintain_order=True)
    others = ordered.join(on_screen, on=_STEP, how="anti", maintain_order="left")
    others = others.unique(_STEP, keep="first", maintain_order=True)
    chosen = pl.concat([on_screen, others]).select(list(ANSWERS))
    shadows = rows.filter("is_shadow").join(chosen, on=[*_REQUEST, "time"], how="semi")
    return (
        chosen,
        shadows.unique([*_STEP, "version"], maintain_order=True),
        answers.group_by("version").agg(answers=pl.len()),
        answers.group_by("stay_id").agg(last_time=pl.col("time").max()),
    )
