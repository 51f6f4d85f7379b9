"""The answered steps whose outcome an extract knows, and why the others are not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import TIME
from flowsheet.config import FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.deployment.evaluated_models import EvaluatedModel
from flowsheet.lifecycle.deployment.external_evaluation import (
    collect_predictions,
    find_seen,
    weigh_rows,
)
from flowsheet.lifecycle.deployment.record_end import is_in_hospital, is_stay_open
from flowsheet.lifecycle.experiment.extract_batches import load_stays
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.lifecycle.outcomes.answers import ChosenAnswers
from flowsheet.windows.grid import Grid

_STEP = ["stay_id", "time"]
MAX_NAMED = 12
"""Stays that are named where they are not judged."""


class UnjudgedAnswers(FrozenModel):
    """Answers that are not judged for one reason."""

    reason: str
    answers: int
    stays: int
    first_stays: tuple[int, ...] = ()
    """Ids of the first of them."""

    @property
    def summary(self) -> str:
        """In words."""
        named = ", ".join(map(str, self.first_stays))
        more = ", ..." if self.stays > len(self.first_stays) else ""
        which = f": stay {named}{more}" if named else ""
        return f"{self.answers:,} answers of {self.stays:,} stays: {self.reason}{which}"


class NothingToJudge(CheckFailed):
    """No answer can be judged."""


@dataclass(frozen=True)
class JudgedRows:
    """The answered steps of one version, with outcomes."""

    predictions: Predictions
    """Whole stays; only answered steps are scored."""
    unjudged: tuple[UnjudgedAnswers, ...]
    answers: int
    """That are judged."""
    is_complete: bool
    """Every step that the task scores was answered."""
    first: datetime
    last: datetime
    """When the judged answers were given."""


def judge_rows(
    models: Sequence[EvaluatedModel],
    answers: Mapping[str, pl.DataFrame],
    chosen: ChosenAnswers,
    extract: Extract,
    until: datetime | None,
) -> JudgedRows:
    """Join the answers of models to the same requests with the outcomes.

    Args:
        models: one, or several of the same task.
        answers: by model, its answers that count.
        chosen: all answers.
        extract: the outcomes.
        until: when the record ends; None: it has no calendar times.

    Raises:
        NothingToJudge: no answer can be judged.
        CheckFailed: the answers have another threshold than the model.
    """
    first, *others = models
    for model in models:
        _check_threshold(model, answers[model.name])
    rows = answers[first.name]
    for other in others:
        rows = rows.join(answers[other.name], on=_STEP, how="semi")
    sorter = _Sorter(extract, rows, until)
    step = timedelta(hours=first.package.task.step_hours)
    sorter.leave_out_stays(models, chosen.last_times, step)
    _check_any(sorter, extract)
    tables = load_stays(extract, sorter.rows["stay_id"].unique().sort().to_list())
    stays = weigh_rows(first, first.package.build_sequences(tables), extract)
    grid = Grid.from_stays(tables.stays, first.package.task)
    horizon = first.package.task.horizon
    steps = pl.DataFrame(
        {
            "stay_id": np.asarray(stays.stay_id)[stays.row_stay],
            "time": pl.Series(grid.predicted_at).cast(TIME),
            "window_end": pl.Series(grid.window_end(horizon or 0)).cast(TIME),
            "is_asked": np.asarray(stays.scored),
        }
    )
    sorter.leave_out_steps(steps, is_endless=horizon is None)
    _check_any(sorter, extract)
    is_judged = steps.join(
        sorter.rows.select(*_STEP, is_judged=pl.lit(value=True)),
        on=_STEP,
        how="left",
        maintain_order="left",
    )["is_judged"].fill_null(value=False)
    scored = is_judged.to_numpy() & np.asarray(stays.scored)
    weight = np.where(scored, np.ones(len(scored)) if stays.weight is None else stays.weight, 0.0)
    risks = {
        model.name: steps.join(
            answers[model.name].select(*_STEP, "risk"), on=_STEP, how="left", maintain_order="left"
        )["risk"]
        .fill_null(0.0)  # of rows that are not scored
        .to_numpy()
        for model in models
    }
    judged = replace(stays, scored=scored, weight=weight)
    return JudgedRows(
        predictions=collect_predictions(models, judged, risks, tables),
        unjudged=tuple(sorter.unjudged),
        answers=sorter.rows.height,
        is_complete=bool(scored.sum() == np.asarray(stays.scored).sum()),
        first=_extreme(sorter.rows["answered_at"].min()),
        last=_extreme(sorter.rows["answered_at"].max()),
    )


class _Sorter:
    """Leaves out answers that cannot be judged, and counts them."""

    def __init__(self, extract: Extract, rows: pl.DataFrame, until: datetime | None) -> None:
        self.extract = extract
        self.until = until
        self.rows = rows
        """What is left."""
        self.unjudged: list[UnjudgedAnswers] = []
        self.stays = extract.scan("stays").collect()

    def leave_out_stays(
        self,
        models: Sequence[EvaluatedModel],
        last_times: pl.DataFrame,
        step: timedelta,
    ) -> None:
        """Leave out whole stays.

        Args:
            models: those that answered.
            last_times: the latest time that was answered of each stay.
            step: length of a step.
        """
        known = self.stays.select("stay_id", "discharged_at", "died_at", subject="subject_id")
        rows = self.rows.join(known, on="stay_id", how="left", maintain_order="left")
        rows = rows.join(last_times, on="stay_id", how="left", maintain_order="left")
        seen = np.unique(np.concatenate([find_seen(m, self.extract).seen for m in models]))
        is_open = pl.col("last_time") > pl.col("discharged_at") + step
        if self.until is not None:
            is_open |= is_stay_open(self.until)
        reasons = {
            "the extract has no such stay": pl.col("subject").is_null(),
            "the stay is another subject's in the extract": (
                pl.col("subject_id") != pl.col("subject")
            ),
            self._word("the stay is not complete in the extract"): is_open,
            "the model was developed on the subject": pl.col("subject").is_in(seen.tolist()),
        }
        for reason, condition in reasons.items():
            is_left_out = condition.fill_null(value=False)
            self._count(reason, rows.filter(is_left_out), is_named=True)
            rows = rows.filter(~is_left_out)
        self.rows = rows

    def leave_out_steps(self, steps: pl.DataFrame, *, is_endless: bool) -> None:
        """Leave out answers for other times than the steps, for steps that nobody asks about, and
        those whose outcome is not known yet.

        Args:
            steps: stay_id, time, window_end, is_asked: the steps of the stays in the extract.
            is_endless: the task asks about all time after the prediction.
        """
        rows = self.rows.join(steps, on=_STEP, how="left", maintain_order="left")
        reason = "no step of the stay in the extract is predicted at that time"
        self._count(reason, rows.filter(pl.col("is_asked").is_null()), is_named=True)
        not_asked = rows.filter(~pl.col("is_asked"))
        self._count("the task does not ask about that step", not_asked, is_named=False)
        rows = rows.filter(pl.col("is_asked").fill_null(value=False))
        is_unknown = self._is_in_hospital() if is_endless else self._is_horizon_open()
        reason = self._word("the outcome is not known yet in the extract")
        self._count(reason, rows.filter(is_unknown), is_named=True)
        self.rows = rows.filter(~is_unknown)

    def _is_horizon_open(self) -> pl.Expr:
        return pl.lit(value=False) if self.until is None else pl.col("window_end") > self.until

    def _is_in_hospital(self) -> pl.Expr:
        open_stays = self.stays.filter(is_in_hospital(self.stays))["stay_id"]
        return pl.col("stay_id").is_in(open_stays.to_list())

    def _word(self, reason: str) -> str:
        """The reason, with the time at which the record ends."""
        return reason if self.until is None else f"{reason}, whose record ends {self.until}"

    def _count(self, reason: str, rows: pl.DataFrame, *, is_named: bool) -> None:
        if rows.height:
            stays = rows["stay_id"].unique().sort()
            named = tuple(stays.head(MAX_NAMED).to_list()) if is_named else ()
            self.unjudged.append(
                UnjudgedAnswers(
                    reason=reason, answers=rows.height, stays=len(stays), first_stays=named
                )
            )


def _check_threshold(model: EvaluatedModel, answers: pl.DataFrame) -> None:
    threshold = model.development.policy.threshold
    others = answers.filter(pl.col("threshold").ne_missing(threshold))
    if others.height:
        raise CheckFailed(
            f"{others.height:,} answers have the threshold {others['threshold'][0]}, the version "
            f"{threshold}: another model of that name and number gave them",
            where=model.version.reference,
            todo="judge the answers with the registry that the server used",
        )


def _check_any(sorter: _Sorter, extract: Extract) -> None:
    if sorter.rows.is_empty():
        reasons = "; ".join(unjudged.summary for unjudged in sorter.unjudged)
        raise NothingToJudge(
            f"no answer can be judged. {reasons}",
            where=str(extract.path),
            todo="ingest the records of the patients whom the server answered about, after they "
            "have left",
        )


def _extreme(value: Any) -> datetime:
    assert isinstance(value, datetime)
    return value
