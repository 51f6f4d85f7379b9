"""What tuning scores trials by: the judged rows of validation subjects, or of groups left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flowsheet.config import Censor, ExperimentConfig
from flowsheet.evaluation.metrics import make_score_function
from flowsheet.evaluation.subsets import select_judged_rows
from flowsheet.lifecycle.experiment.prepare import open_extract
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.training_memory import place_inputs
from flowsheet.models.base import MODELS, count_processes
from flowsheet.tuning.left_out import LeftOutGroup, LeftOutParts, ScoreFunction
from flowsheet.tuning.space import resolve
from flowsheet.typing import Ints
from flowsheet.windows.censoring import apply_weights, estimate_completeness
from flowsheet.windows.scaling import Scaler
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.shift_groups import group_subjects

_COLUMNS = ("stay_id", "subject_id", "admitted_at", "unit", "site")


def make_tuning_score(config: ExperimentConfig, valid: Sequences) -> ScoreFunction:
    """The tuned metric of the rows that models are judged by, of (y, p) of all scored rows."""
    scored = np.asarray(valid.scored)
    judged = select_judged_rows(valid, config.evaluation)
    weight = np.asarray(valid.weight)[scored] if config.task.censor is Censor.competing else None
    return make_score_function(config.tuning.metric, judged.rows[scored], weight)


def list_left_out_groups(
    config: ExperimentConfig, name: str, extract: Stage, train: Sequences, valid: Sequences
) -> list[LeftOutGroup]:
    """The groups of ``tuning.leave_out``; none without it, or where there is nothing to choose.

    Only training and validation subjects are divided: test subjects take no part in any choice.

    Args:
        config: the experiment's configuration.
        name: the model that is tuned.
        extract: the stage of the cohort extract.
        train: training stays, inputs as they are.
        valid: validation stays, inputs as they are.

    Raises:
        UsageError: the features do not say what is measured, by which ``charting`` goes, or there
            are not two groups with enough subjects with the event.
    """
    by = config.tuning.leave_out
    model = config.models[name]
    if by is None or not resolve(model.kind, model).ranges:
        return []
    stays = open_extract(extract).scan("stays").select(_COLUMNS).collect()
    parts = (train, valid)
    groups = group_subjects(parts, stays, by, config.evaluation.minimum_events)
    return [
        LeftOutGroup(str(group), _loader(config, name, parts, subjects["subject_id"].to_numpy()))
        for (group,), subjects in groups.group_by("group", maintain_order=True)
    ]


def _loader(
    config: ExperimentConfig, name: str, parts: tuple[Sequences, Sequences], subjects: Ints
) -> Callable[[], LeftOutParts]:
    """Makes the parts with these subjects held out; scaled by the others' training stays."""

    def load() -> LeftOutParts:
        is_left_out = [np.isin(part.subject_id, subjects) for part in parts]
        train, valid = (part.take(~out) for part, out in zip(parts, is_left_out, strict=True))
        held_out = Sequences.concat(
            part.take(out) for part, out in zip(parts, is_left_out, strict=True)
        )
        completeness = estimate_completeness(train, config.task)
        valid, held_out = (apply_weights(part, completeness) for part in (valid, held_out))
        score = make_tuning_score(config, held_out)
        kind = config.models[name].kind
        if MODELS.get(kind).capabilities.scaled:
            scaler = Scaler.fit(train)
            train, valid, held_out = (scaler.transform(p) for p in (train, valid, held_out))
        if count_processes(config.compute, kind) == 1:  # those of a group read shards
            train, valid = place_inputs((train, valid), config.compute, lambda line: None)
        return LeftOutParts(train, valid, held_out, score)

    return load
