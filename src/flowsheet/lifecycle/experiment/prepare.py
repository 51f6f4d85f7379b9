"""Raw records -> validated extract -> windows -> frozen splits."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest as ingest_source
from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.schema import Tables
from flowsheet.config import CohortConfig, EvaluationConfig, FeaturesConfig, TaskConfig
from flowsheet.lifecycle.experiment.stage import Progress, Stage, run_stage
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.windows.build import VERSION as WINDOWS_VERSION
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.protocol import SubjectTable, make_folds, train_on_all
from flowsheet.windows.sequences import Sequences

_AGE_BANDS = (45, 65, 80)


def ingest_cohort(cohort: CohortConfig, progress: Progress) -> Stage:
    """A validated extract of the cohort's records.

    Raises:
        UsageError: the source or its options are not known.
        CheckFailed: the records cannot be read, or break the contract beyond the declared policy.
    """
    source = make_source(cohort)
    key = digest(
        {
            "source": cohort.source,
            "version": type(source).version,
            "records": source.fingerprint(),
            "options": source.options.model_dump(mode="json"),
            "quarantine": cohort.quarantine.model_dump(mode="json"),
        }
    )

    def make(folder: Path) -> None:
        ingest_source(source, cohort, folder / "extract", progress)

    return run_stage("extract", key, make)


def open_extract(made: Stage) -> Extract:
    """The extract that :func:`ingest_cohort` made."""
    return Extract.open(made.folder / "extract")


def build_windows(extract: Stage, task: TaskConfig, features: FeaturesConfig) -> Stage:
    """Sequences of every stay, and what a served model needs to build the same columns again."""
    opened = open_extract(extract)
    key = digest(
        {
            "version": WINDOWS_VERSION,
            "extract": opened.fingerprint,
            "task": task.model_dump(mode="json", exclude={"name"}),
            "features": features.model_dump(mode="json", exclude={"name"}),
        }
    )

    def make(folder: Path) -> None:
        tables = opened.tables()
        vocabulary = collect_vocabulary(tables)
        variables, drugs = opened.manifest.variables, opened.manifest.drugs
        sequences = build_sequences(tables, task, features, variables, drugs, vocabulary)
        (folder / "sequences").mkdir()
        sequences.save(folder / "sequences")
        _subgroups(tables, sequences).write_parquet(folder / "subgroups.parquet")
        columns = {
            "variables": list(variables),
            "drugs": list(drugs),
            "vocabulary": dict(vocabulary),
        }
        write_json(folder / "columns.json", columns)
        write_json(folder / "summary.json", summarise_windows(sequences))

    return run_stage("windows", key, make)


def split_subjects(extract: Stage, made: Stage, evaluation: EvaluationConfig, seed: int) -> Stage:
    """Who trains, who validates, who is held out, in every fold of the protocol: frozen, and the
    same for every model.

    Raises:
        CheckFailed: the cohort is too small for the protocol.
        UsageError: a site that is to be held out is not there.
    """
    protocol = evaluation.model_dump(
        mode="json", include={"protocol", "test", "validation", "folds", "repeats", "sites"}
    )
    key = digest({"windows": made.key, "seed": seed, **protocol})

    def make(folder: Path) -> None:
        roster = _roster(open_extract(extract), Sequences.load(made.folder / "sequences"))
        plan = []
        for i, fold in enumerate(make_folds(roster, evaluation, seed)):
            fold.split.save(folder / f"fold-{i}.json")
            plan.append({**asdict(fold.id), "part": f"fold-{i}"})
        if len(plan) > 1:
            train_on_all(roster, evaluation, seed).save(folder / "service.json")
        write_json(folder / "folds.json", plan)

    return run_stage("split", key, make)


def _roster(extract: Extract, sequences: Sequences) -> SubjectTable:
    event = np.zeros(len(sequences), bool)
    np.logical_or.at(event, sequences.row_stay, (sequences.y == 1) & sequences.scored)
    order = pl.DataFrame({"stay_id": np.asarray(sequences.stay_id)})
    stays = (
        extract.scan("stays")
        .select("stay_id", "admitted_at", pl.col("site").fill_null("not told"))
        .collect()
    )
    known = order.join(stays, on="stay_id", how="left", maintain_order="left")
    return SubjectTable(
        subject=np.asarray(sequences.subject_id),
        has_event=event,
        admitted=known["admitted_at"].to_physical().to_numpy(),
        site=known["site"].to_numpy().astype(np.str_),
    )


def _subgroups(tables: Tables, sequences: Sequences) -> pl.DataFrame:
    """One row a stay, in the order of the sequences: what evidence is told apart by."""
    order = pl.DataFrame({"stay_id": np.asarray(sequences.stay_id)})
    edges = [str(edge) for edge in _AGE_BANDS]
    labels = [
        f"under {edges[0]}",
        *(f"{a} to {b}" for a, b in pairwise(edges)),
        f"{edges[-1]} and over",
    ]
    band = pl.col("age").cut(_AGE_BANDS, labels=labels, left_closed=True).cast(pl.Enum(labels))
    known = tables.stays.select("stay_id", "sex", "unit", "site", age=band)
    return order.join(known, on="stay_id", how="left", maintain_order="left")


def summarise_windows(sequences: Sequences) -> dict[str, object]:
    """Counts that a reader wants before any score: stays, steps, prevalence, missingness."""
    scored = sequences.scored
    return {
        "stays": len(sequences),
        "subjects": int(np.unique(sequences.subject_id).size),
        "rows": sequences.rows,
        "scored_rows": int(scored.sum()),
        "events": int(sequences.y[scored].sum()),
        "features": len(sequences.features),
        "unknown_share": _unknown(sequences),
    }


def _unknown(sequences: Sequences) -> dict[str, float]:
    """Of each variable the share of rows at which none of its columns holds a value; a count of 0 is none."""
    columns: dict[str, list[int]] = {}
    for i, feature in enumerate(sequences.features):
        if feature.kind == "value":
            columns.setdefault(feature.source, []).append(i)
    shares = {}
    for variable, places in columns.items():
        values = sequences.x[:, places]
        counts = np.array([sequences.features[i].name == f"{variable}_count" for i in places])
        shares[variable] = float((np.isnan(values) | (counts & (values == 0))).all(axis=1).mean())
    return shares


def load_summary(made: Stage) -> dict[str, object]:
    """What :func:`summarise_windows` counted when the windows were made."""
    counted: dict[str, object] = read_json(made.folder / "summary.json")
    return counted
