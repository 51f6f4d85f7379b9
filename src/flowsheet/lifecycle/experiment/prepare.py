"""Raw records -> validated extract -> windows -> frozen splits."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.cohort.catalogue import group_ethnicity, own_concepts_key
from flowsheet.cohort.compute_responses import make_responses
from flowsheet.cohort.divided import BuildGroups
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest as ingest_source
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.recipe import describe_rows
from flowsheet.config import CohortConfig, EvaluationConfig, FeaturesConfig, TaskConfig
from flowsheet.lifecycle.experiment import window_shards
from flowsheet.lifecycle.experiment.capacity import (
    check_windows,
    estimate_building,
    measure_windows,
)
from flowsheet.lifecycle.experiment.stage import Stage, is_complete, run_stage
from flowsheet.lifecycle.experiment.window_shards import Stays, WindowsRecipe
from flowsheet.state.erasures import use_records
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.typing import Progress
from flowsheet.windows.build import VERSION as WINDOWS_VERSION
from flowsheet.windows.fill import ColumnFill, list_value_columns
from flowsheet.windows.flow import count_left_out
from flowsheet.windows.protocol import SubjectTable, make_folds, train_on_all
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.statics import list_categories

SEQUENCES = "sequences"
"""Folder of the stage of the windows."""
_AGE_LIMITS = (45, 65, 80)
"""Years at which the age groups of the subgroup analysis begin."""
_SMALL_GROUP = 10
"""Stays; smaller groups of free text are one group together."""
_OTHER = "other"
_FREE_TEXTS = ("ethnicity", "insurance")
_UNKNOWN_SITE = "unknown"


def ingest_cohort(
    cohort: CohortConfig, progress: Progress, build_groups: BuildGroups | None = None
) -> Stage:
    """Ingest the cohort's records into a validated extract.

    Args:
        cohort: the records and how they are read.
        progress: is called with lines of text.
        build_groups: has other processes build batches of stays, where the source can be divided.

    Raises:
        UsageError: the source or one of its options is unknown.
        CheckFailed: the records cannot be read, or break the contract beyond the declared policy.
    """
    source = make_source(cohort)
    key = digest(
        {
            **describe_rows(source, cohort, make_responses(cohort, source)),
            "records": source.fingerprint(),
            "quarantine": cohort.quarantine.model_dump(mode="json"),
            "allow_empty": cohort.allow_empty,
        }
    )

    def build(folder: Path) -> None:
        ingest_source(source, cohort, folder / "extract", progress, build_groups)

    return run_stage("extract", key, build)


def open_extract(stage: Stage) -> Extract:
    """Open the extract in a stage of :func:`ingest_cohort`."""
    return Extract.open(stage.folder / "extract")


def build_windows(extract: Stage, task: TaskConfig, features: FeaturesConfig) -> Stage:
    """Build the sequences of every stay.

    The stage also keeps what a served model needs to build the same columns again.
    """
    return build_extract_windows(open_extract(extract), task, features)


def plan_shards(extract: Stage, task: TaskConfig, features: FeaturesConfig) -> list[Stays]:
    """The stays of each shard that :func:`build_windows` would build; none if it is in the store.

    Raises:
        UsageError: the extract has no episodes of the task's response.
        CheckFailed: the windows do not fit this machine.
    """
    cohort_extract = open_extract(extract)
    if is_complete("windows", windows_key(cohort_extract, task, features)):
        return []
    recipe = make_recipe(cohort_extract, task, features)
    check_windows(cohort_extract, recipe)
    with use_records():
        return window_shards.plan_shards(cohort_extract, recipe)


def estimate_shard_memory(extract: Stage, task: TaskConfig, features: FeaturesConfig) -> int:
    """Bytes that the process takes which builds a shard."""
    cohort_extract = open_extract(extract)
    recipe = make_recipe(cohort_extract, task, features)
    return estimate_building(measure_windows(cohort_extract, recipe))


def build_shard(extract: Stage, task: TaskConfig, features: FeaturesConfig, stays: Stays) -> Stage:
    """Build a shard of :func:`plan_shards`, which :func:`build_windows` then finds.

    Args:
        extract: the cohort.
        task: the grid and the target.
        features: which features to build.
        stays: of the shard.
    """
    cohort_extract = open_extract(extract)
    recipe = make_recipe(cohort_extract, task, features)
    return window_shards.build_shard(cohort_extract, recipe, stays)


def build_extract_windows(
    cohort_extract: Extract, task: TaskConfig, features: FeaturesConfig
) -> Stage:
    """:func:`build_windows` for an extract in any folder.

    Raises:
        UsageError: the extract has no episodes of the task's response.
        CheckFailed: the windows do not fit this machine.
    """

    def build(folder: Path) -> tuple[Stage, ...]:
        recipe = make_recipe(cohort_extract, task, features)
        check_windows(cohort_extract, recipe)
        write_json(folder / "columns.json", recipe.columns)
        (folder / SEQUENCES).mkdir()
        shards = window_shards.build_window_index(cohort_extract, recipe, folder / SEQUENCES)
        sequences = Sequences.load(folder / SEQUENCES)
        subgroups = collect_subgroups(cohort_extract.scan("stays").collect(), sequences)
        subgroups.write_parquet(folder / "subgroups.parquet")
        fill = ColumnFill.load(folder / SEQUENCES, len(sequences.features))
        write_json(folder / "summary.json", summarise_windows(sequences, fill))
        return shards

    return run_stage("windows", windows_key(cohort_extract, task, features), build)


def windows_key(cohort_extract: Extract, task: TaskConfig, features: FeaturesConfig) -> str:
    """Key of the stage of an extract's windows.

    Raises:
        UsageError: the extract has no episodes of the task's response.
    """
    cohort_extract.check_response(task.response)
    return digest(
        {
            "version": WINDOWS_VERSION,
            "layout": window_shards.LAYOUT,
            "extract": cohort_extract.fingerprint,
            "task": task.model_dump(mode="json", exclude={"name"}),
            "features": features.model_dump(mode="json", exclude={"name"}),
            **own_concepts_key(),
        }
    )


def make_recipe(
    cohort_extract: Extract, task: TaskConfig, features: FeaturesConfig
) -> WindowsRecipe:
    """How the windows of an extract are built."""
    return WindowsRecipe(
        task=task,
        features=features,
        variables=cohort_extract.manifest.variables,
        drugs=cohort_extract.manifest.drugs,
        vocabulary=list_categories(cohort_extract.scan("stays").collect()),
    )


def split_subjects(
    extract: Stage, windows: Stage, evaluation: EvaluationConfig, seed: int
) -> Stage:
    """Split the subjects into training, validation and test parts, once for each fold.

    The splits are written to files and are the same for every model.

    Args:
        extract: stage of the cohort extract.
        windows: stage of its sequences.
        evaluation: the protocol and its fractions, folds, repetitions and sites.
        seed: of the split.

    Raises:
        CheckFailed: the cohort is too small for the protocol.
        UsageError: no stay is at a site that is to be held out.
    """
    protocol = evaluation.model_dump(
        mode="json", include={"protocol", "test", "validation", "folds", "repeats", "sites"}
    )
    key = digest({"windows": windows.key, "seed": seed, **protocol})

    def build(folder: Path) -> None:
        sequences = Sequences.load(windows.folder / SEQUENCES)
        subjects = make_subject_table(open_extract(extract), sequences)
        entries = []
        for i, fold in enumerate(make_folds(subjects, evaluation, seed)):
            split_name = f"fold-{i}"
            fold.split.save(folder / f"{split_name}.json")
            entries.append({**asdict(fold.id), "split_name": split_name})
        if len(entries) > 1:
            train_on_all(subjects, evaluation, seed).save(folder / "final_refit.json")
        write_json(folder / "folds.json", entries)

    return run_stage("split", key, build)


def make_subject_table(extract: Extract, sequences: Sequences) -> SubjectTable:
    """What a split needs to know about the subject of each stay, in the sequences' order."""
    has_event = np.zeros(len(sequences), bool)
    np.logical_or.at(has_event, sequences.row_stay, (sequences.y == 1) & sequences.scored)
    order = pl.DataFrame({"stay_id": np.asarray(sequences.stay_id)})
    site = pl.col("site").fill_null(_UNKNOWN_SITE)
    stays = extract.scan("stays").select("stay_id", "admitted_at", site).collect()
    stays = order.join(stays, on="stay_id", how="left", maintain_order="left")
    return SubjectTable(
        subject=np.asarray(sequences.subject_id),
        has_event=has_event,
        admitted=stays["admitted_at"].to_physical().to_numpy(),
        site=stays["site"].to_numpy().astype(np.str_),
    )


def collect_subgroups(stays: pl.DataFrame, sequences: Sequences) -> pl.DataFrame:
    """The grouping columns of the subgroup analysis: one row a stay, in the sequences' order.

    Recorded ethnicities are in the catalogue's broad groups. Groups of ethnicity and insurance with
    fewer than ``_SMALL_GROUP`` stays are one group, which is not judged if it is as small.
    """
    order = pl.DataFrame({"stay_id": np.asarray(sequences.stay_id)})
    labels = [
        f"under {_AGE_LIMITS[0]}",
        *(f"{low} to {high}" for low, high in pairwise(_AGE_LIMITS)),
        f"{_AGE_LIMITS[-1]} and over",
    ]
    age_group = pl.col("age").cut(_AGE_LIMITS, labels=labels, left_closed=True)
    stays = stays.select(
        "stay_id",
        "sex",
        "unit",
        "site",
        "insurance",
        ethnicity=group_ethnicity(pl.col("ethnicity")),
        age=age_group.cast(pl.Enum(labels)),
    )
    stays = stays.join(order, on="stay_id", how="semi")
    stays = stays.with_columns(merge_small_groups(stays[name]) for name in _FREE_TEXTS)
    return order.join(stays, on="stay_id", how="left", maintain_order="left")


def merge_small_groups(groups: pl.Series) -> pl.Series:
    """The groups, with small ones as ``_OTHER``; null where these are few together."""
    sizes = groups.value_counts().drop_nulls()
    large = sizes.filter(pl.col("count") >= _SMALL_GROUP)[groups.name]
    is_large = groups.is_in(large.implode())
    merged = pl.select(
        pl.when(groups.is_null() | is_large).then(groups).otherwise(pl.lit(_OTHER))
    ).to_series()
    is_other = merged == _OTHER
    if (is_other.sum() or 0) < _SMALL_GROUP:
        merged = pl.select(pl.when(~is_other).then(merged)).to_series()
    return merged.alias(groups.name)


def summarise_windows(sequences: Sequences, fill: ColumnFill) -> dict[str, object]:
    """Counts that describe the windows: what is scored, what is left out and why, missing values.

    ``left_out`` is the flow of participants (:func:`flowsheet.windows.flow.count_left_out`),
    ``missing_share`` by variable the share of rows in which none of its columns has a value, and
    ``empty_columns`` names those that are unknown or 0 in every row.
    """
    scored = np.asarray(sequences.scored)
    stays = np.unique(sequences.row_stay[scored])
    variables = list_value_columns(sequences.features)
    missing_share = fill.missing.sum(axis=0, dtype=np.int64) / max(sequences.rows, 1)
    is_empty = ~fill.filled.any(axis=0)
    return {
        "stays": len(sequences),
        "subjects": int(np.unique(sequences.subject_id).size),
        "rows": sequences.rows,
        "scored_stays": len(stays),
        "scored_subjects": int(np.unique(sequences.subject_id[stays]).size),
        "scored_rows": int(scored.sum()),
        "events": int(sequences.y[scored].sum()),
        "left_out": count_left_out(sequences),
        "features": len(sequences.features),
        "missing_share": dict(zip(variables, missing_share.tolist(), strict=True)),
        "empty_columns": [sequences.features[i].name for i in np.flatnonzero(is_empty)],
    }


def load_summary(windows: Stage) -> dict[str, object]:
    """The counts of :func:`summarise_windows`, from a stage of :func:`build_windows`."""
    summary: dict[str, object] = read_json(windows.folder / "summary.json")
    return summary
