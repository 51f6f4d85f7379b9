"""Batch scoring gives the model package's own risks, in complete files, and only once."""

from __future__ import annotations

import shutil
from collections import namedtuple
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from flowsheet.cohort.extract import Extract, Provenance
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.writer import write_extract
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError
from flowsheet.evaluation.alert_policy import AlertPolicy
from flowsheet.lifecycle.deployment import batch_scoring
from flowsheet.lifecycle.deployment.batch_scoring import (
    SCORE_SCHEMA,
    ScoringResult,
    plan_batches,
    score,
    score_batch,
)
from flowsheet.lifecycle.experiment import extract_batches
from flowsheet.lifecycle.experiment.extract_batches import iter_batches
from flowsheet.prediction.model_package import PREDICTIONS, ModelPackage


def ignore_progress(line: str) -> None:
    pass


def score_with(in_service, extract: Extract, out=None) -> ScoringResult:
    reference = f"{in_service.name}/{in_service.version}"
    return score(reference, extract.path, out, ignore_progress)


def load_package(in_service) -> ModelPackage:
    return ModelPackage.load(in_service.trained.folder / "model_package")


def get_provenance(extract: Extract) -> Provenance:
    return Provenance(**{name: getattr(extract.manifest, name) for name in Provenance.model_fields})


def copy_extract(extract: Extract, folder, change=lambda tables: tables) -> Extract:
    """Write the extract again, with changed tables."""
    return write_extract(change(extract.tables()), folder, get_provenance(extract))


def keep_first_events(events: int):
    """A change of tables that makes a new extract, which no other test has scored."""
    return lambda t: Tables(t.stays, t.events.head(events), t.treatments, t.episodes)


@pytest.fixture
def extract(in_service, tmp_path) -> Extract:
    """80 stays of new patients."""
    whole = Extract.open(in_service.new_extract)
    first = whole.scan("stays").head(80).collect()["stay_id"]
    selected = pl.col("stay_id").is_in(first.to_list())

    def select_stays(tables: Tables) -> Tables:
        return Tables(**{table: getattr(tables, table).filter(selected) for table in TABLES})

    return copy_extract(whole, tmp_path / "first_stays", select_stays)


def test_the_risks_are_those_of_the_model_package(in_service, extract):
    result = score_with(in_service, extract)
    scores = pl.read_parquet(result.file)
    predictions = load_package(in_service).predict(extract.tables())
    assert dict(scores.schema) == SCORE_SCHEMA
    assert_frame_equal(
        scores.select(list(PREDICTIONS)), predictions, check_exact=False, abs_tol=1e-6, rel_tol=0
    )
    assert (result.stays, result.steps) == (80, predictions.height)
    assert_series_equal(scores["raised"], scores["alert"].alias("raised"))  # without silence


def test_the_policy_in_the_package_decides_what_is_raised(in_service, extract, monkeypatch):
    policy = AlertPolicy(threshold=0.0, silence_hours=48)
    monkeypatch.setattr(ModelPackage, "policy", policy)
    unscored = copy_extract(extract, extract.path.with_name("more"), keep_first_events(70))
    scores = pl.read_parquet(score_with(in_service, unscored).file).sort("stay_id", "step")
    assert scores["alert"].all()
    assert_series_equal(scores["raised"], (scores["step"] % 2 == 1).alias("raised"))


def test_batches_of_any_size_give_the_same_risks(in_service, extract):
    model_package = load_package(in_service)
    at_once = model_package.predict(extract.tables())
    batches = [model_package.predict(tables) for tables in iter_batches(extract, 7)]
    assert_frame_equal(pl.concat(batches), at_once, check_exact=False, abs_tol=1e-9, rel_tol=0)


class FrozenTime(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 1, 1, tzinfo=tz)


def test_batches_of_workers_give_the_same_file_to_the_last_byte(in_service, extract, monkeypatch):
    monkeypatch.setattr(extract_batches, "STAYS_PER_BATCH", 20)
    monkeypatch.setattr(batch_scoring, "datetime", FrozenTime)
    unscored = copy_extract(extract, extract.path.with_name("batches"), keep_first_events(600))
    reference = f"{in_service.name}/{in_service.version}"
    plan = plan_batches(reference, unscored.path)
    assert (plan.model, plan.numbers) == (reference, [1, 2, 3, 4])
    by_one_process = score_with(in_service, unscored)
    content = Path(by_one_process.file).read_bytes()
    assert plan_batches(reference, unscored.path).numbers == []  # it is scored
    shutil.rmtree(by_one_process.stage.folder)

    for batch in extract_batches.list_batches(unscored)[:3]:  # the fourth's worker was killed
        score_batch(reference, unscored.path, batch)
    assert plan_batches(reference, unscored.path).numbers == [4]
    predict = ModelPackage.predict
    predicted: list[int] = []

    def count(self: ModelPackage, tables: Tables) -> pl.DataFrame:
        predicted.append(tables.stays.height)
        return predict(self, tables)

    monkeypatch.setattr(ModelPackage, "predict", count)
    assert Path(score_with(in_service, unscored).file).read_bytes() == content
    assert predicted == [20]


def test_the_order_of_rows_does_not_matter(in_service, extract):
    model_package = load_package(in_service)
    tables = extract.tables()
    shuffled = {
        table: getattr(tables, table).sample(fraction=1, shuffle=True, seed=seed)
        for seed, table in enumerate(TABLES)
    }
    assert_frame_equal(
        model_package.predict(Tables(**shuffled)),
        model_package.predict(tables),
        check_exact=False,
        abs_tol=1e-9,
        rel_tol=0,
    )


def test_an_extract_is_scored_once(in_service, extract, tmp_path):
    first = score_with(in_service, extract, tmp_path / "a" / "scores.parquet")
    second = score_with(in_service, extract, tmp_path / "b.parquet")
    assert second.stage.reused
    assert_frame_equal(pl.read_parquet(first.file), pl.read_parquet(second.file))
    assert pl.read_parquet(first.file)["scored_at"].n_unique() == 1


def test_every_row_has_its_provenance(in_service, extract):
    scores = pl.read_parquet(score_with(in_service, extract).file)
    provenance = scores.select("model", "version", "extract").unique().row(0)
    assert provenance == (in_service.name, in_service.version, extract.fingerprint)
    assert scores.select(pl.struct("stay_id", "step").is_unique().all()).item()


def test_an_interrupted_scoring_leaves_no_file(in_service, extract, monkeypatch, tmp_path):
    unscored = copy_extract(extract, tmp_path / "unscored", keep_first_events(50))

    def interrupt(self, tables):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ModelPackage, "predict", interrupt)
        with pytest.raises(KeyboardInterrupt):
            score_with(in_service, unscored, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    assert not score_with(in_service, unscored).stage.reused


def test_an_extract_without_stays_gives_an_empty_table(in_service, extract, tmp_path):
    empty = copy_extract(
        extract,
        tmp_path / "empty",
        lambda tables: Tables(*(getattr(tables, table).clear() for table in TABLES)),
    )
    result = score_with(in_service, empty)
    assert (result.stays, result.steps) == (0, 0)
    assert dict(pl.read_parquet_schema(result.file)) == SCORE_SCHEMA


def test_invalid_risks_are_not_written(in_service, extract, monkeypatch, tmp_path):
    unscored = copy_extract(extract, tmp_path / "unscored", keep_first_events(60))
    predict = ModelPackage.predict

    def predict_nan(self, tables):
        return predict(self, tables).with_columns(risk=pl.lit(np.nan))

    with monkeypatch.context() as patch:
        patch.setattr(ModelPackage, "predict", predict_nan)
        with pytest.raises(CheckFailed, match="are not probabilities, first at stay"):
            score_with(in_service, unscored)


def test_a_changed_file_is_refused(in_service, extract):
    file = extract.path / "events.parquet"
    pl.read_parquet(file).head(10).write_parquet(file)
    with pytest.raises(CheckFailed, match="sha256 differs"):
        score_with(in_service, extract)


def test_records_without_most_of_the_variables_are_refused(in_service, extract, tmp_path):
    provenance = get_provenance(extract).model_copy(update={"variables": ("hr",)})
    other = write_extract(extract.tables(), tmp_path / "other", provenance)
    with pytest.raises(CheckFailed, match="variables"):
        score_with(in_service, other)


def test_a_folder_as_output_is_refused(in_service, extract, tmp_path):
    with pytest.raises(FlowsheetError, match="the output path is a folder"):
        score_with(in_service, extract, tmp_path)


def test_an_unknown_version_is_a_usage_error(in_service, extract):
    with pytest.raises(UsageError, match="has no version 99"):
        score(f"{in_service.name}/99", extract.path, None, ignore_progress)


def test_scores_that_do_not_fit_on_the_disk_are_not_begun(in_service, extract, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2_000, 1_000, 1_000))
    changed = copy_extract(extract, extract.path.parent / "other", keep_first_events(77))
    with pytest.raises(CheckFailed, match=r"scores of [\d,]+ steps: about"):
        score_with(in_service, changed)
