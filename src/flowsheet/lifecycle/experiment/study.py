"""The facts about the study of an experiment, collected from its stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.responses.base import find_words
from flowsheet.evaluation.study import StudyFacts
from flowsheet.evaluation.study.characteristics import tabulate_characteristics
from flowsheet.evaluation.study.facts import SampleSize
from flowsheet.evaluation.study.outcome import describe_outcome, find_overlap
from flowsheet.evaluation.study.participants import list_left_out, trace_stays
from flowsheet.evaluation.study.predictors import describe_missing_data, find_bedside_scores
from flowsheet.lifecycle.experiment.evaluate import load_evidence
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, ExperimentResults
from flowsheet.lifecycle.experiment.prepare import load_summary, open_extract
from flowsheet.models.base import MODELS, Capabilities, ModelFamily
from flowsheet.typing import AnyArray
from flowsheet.windows.fill import ColumnFill
from flowsheet.windows.sequences import Sequences


def collect_study(results: ExperimentResults) -> StudyFacts:
    """Collect what reports must say about participants, outcome, predictors and missing data."""
    config, plan = results.config, results.plan
    data = plan.first_fold.data
    extract = open_extract(data.extract)
    manifest = extract.manifest
    response = (config.task.response, manifest.computed_responses)
    words = find_words(config.task.response)
    windows: dict[str, Any] = load_summary(data.windows)
    sequences = Sequences.load(data.windows.folder / "sequences")
    titles = load_evidence(results.evidence).titles
    capabilities = {name: MODELS.get(m.kind).capabilities for name, m in config.models.items()}
    return StudyFacts(
        outcome=describe_outcome(manifest.source, *response),
        overlap=find_overlap(manifest.source, sequences.features, *response),
        history_models=tuple(
            titles[name]
            for name in results.models
            if capabilities[name].history or config.models[name].history
        ),
        flow=tuple(trace_stays(manifest.attrition, manifest.counts["stays"], windows, words)),
        rows=int(windows["rows"]),
        left_out=tuple(list_left_out(windows, words)),
        characteristics=tabulate_characteristics(extract, _group_stays(plan, sequences)),
        missing_data=tuple(
            describe_missing_data(
                config.features,
                windows["missing_share"],
                scaled=any(capabilities[name].scaled for name in results.models),
                raw=any(_takes_missing_values(capabilities[name]) for name in results.models),
                empty=_list_empty_columns(plan, sequences),
            )
        ),
        sample_size=_count_events(plan, sequences),
        bedside_scores=tuple(
            find_bedside_scores({name: config.models[name] for name in results.models})
        ),
        agreement=tuple(_agreement_rows(extract)),
    )


def _takes_missing_values(capabilities: Capabilities) -> bool:
    """Whether inputs reach the model with their missing values, as with trees."""
    return not capabilities.scaled and capabilities.family is ModelFamily.reference


def _has_parts(plan: ExperimentPlan) -> bool:
    """Whether the first fold's split stands for the experiment: no cross-validation."""
    return len({fold.data.extract.key for fold in plan.folds}) == len(plan.folds)


def _list_empty_columns(plan: ExperimentPlan, sequences: Sequences) -> list[str]:
    """The inputs without a value in the training part; of a cross-validation, in all folds."""
    data = plan.first_fold.data
    fill = ColumnFill.load(data.windows.folder / "sequences", len(sequences.features))
    if _has_parts(plan):
        fill = fill.take(np.isin(sequences.subject_id, data.load_split().train))
    return [sequences.features[i].name for i in np.flatnonzero(~fill.filled.any(axis=0))]


def _group_stays(plan: ExperimentPlan, sequences: Sequences) -> pl.DataFrame:
    """The stays with an evaluated prediction, and the columns of the table of characteristics.

    Where every subject is held out once, there are no parts, and the columns are the outcomes.
    """
    is_scored = np.zeros(len(sequences), bool)
    has_event = np.zeros(len(sequences), bool)
    is_scored[sequences.row_stay[sequences.scored]] = True
    has_event[sequences.row_stay[sequences.scored & (sequences.y == 1)]] = True
    columns: dict[str, AnyArray] = {"stay_id": np.asarray(sequences.stay_id)}
    if _has_parts(plan):
        split = plan.first_fold.data.load_split()
        subjects = {"Training": split.train, "Validation": split.valid, "Test": split.test}
        for name, ids in subjects.items():
            columns[name] = np.isin(sequences.subject_id, ids)
    columns |= {"With the event": has_event, "Without": ~has_event}
    return pl.DataFrame(columns).filter(is_scored)


def _count_events(plan: ExperimentPlan, sequences: Sequences) -> SampleSize:
    """Events of the training part; of a cross-validation, of all folds."""
    rows = "rows of all folds"
    scored = np.asarray(sequences.scored)
    if _has_parts(plan):
        rows = "training rows"
        is_training = np.isin(sequences.subject_id, plan.first_fold.data.load_split().train)
        scored = scored & is_training[sequences.row_stay]
    events = scored & (sequences.y == 1)
    in_state = scored & sequences.in_state
    new_onsets = int((events & ~in_state).sum()) if in_state.any() else None
    return SampleSize(
        rows=rows,
        columns=len(sequences.features),
        events=int(events.sum()),
        new_onsets=new_onsets,
    )


def _agreement_rows(extract: Extract) -> Iterator[dict[str, str]]:
    """How definitions of the outcome agree on the cohort, if the manifest has it."""
    for entry in extract.manifest.definition_agreement:
        row = entry.model_dump()
        yield {name.replace("_", " "): _format_value(value) for name, value in row.items()}


def _format_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
