"""Batch scoring: the same risks as the model's own, whole files, and nothing twice."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.cohort.extract import Extract, Provenance
from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.cohort.writer import write
from flowsheet.errors import CheckFailed, FlowsheetError, UsageError
from flowsheet.lifecycle.deployment import batch_scoring as score
from flowsheet.lifecycle.deployment.batch_scoring import SCORES
from flowsheet.lifecycle.experiment import extract_batches
from flowsheet.prediction.model_package import PREDICTIONS, ModelPackage


def quiet(line: str) -> None:
    pass


def of(in_service) -> str:
    return f"{in_service.name}/{in_service.version}"


def provenance(extract: Extract) -> Provenance:
    return Provenance(**{name: getattr(extract.manifest, name) for name in Provenance.model_fields})


def copied(extract: Extract, folder, change=lambda tables: tables) -> Extract:
    """The extract written anew with a change."""
    return write(change(extract.tables()), folder, provenance(extract))


@pytest.fixture
def some(in_service, tmp_path) -> Extract:
    """The first stays of the new ward."""
    whole = Extract.open(in_service.new_extract)
    first = whole.scan("stays").head(80).collect()["stay_id"]

    def cut(tables: Tables) -> Tables:
        mine = pl.col("stay_id").is_in(first.to_list())
        return Tables(**{table: getattr(tables, table).filter(mine) for table in TABLES})

    return copied(whole, tmp_path / "some", cut)


def test_the_risks_are_those_of_the_model_package(in_service, some):
    done = score.score(of(in_service), some.path, None, quiet)
    found = pl.read_parquet(done.file)
    direct = ModelPackage.load(in_service.trained.folder / "model_package").predict(some.tables())
    assert dict(found.schema) == SCORES
    assert_frame_equal(
        found.select(list(PREDICTIONS)), direct, check_exact=False, abs_tol=1e-6, rel_tol=0
    )
    assert (done.stays, done.steps) == (80, direct.height)


def test_parts_of_any_size_give_the_same_risks(in_service, some):
    model_package = ModelPackage.load(in_service.trained.folder / "model_package")
    whole = model_package.predict(some.tables())
    parts = pl.concat(
        [model_package.predict(tables) for tables in extract_batches.iter_batches(some, 7)]
    )
    assert_frame_equal(parts, whole, check_exact=False, abs_tol=1e-9, rel_tol=0)


def test_the_order_of_rows_does_not_matter(in_service, some):
    model_package = ModelPackage.load(in_service.trained.folder / "model_package")
    tables = some.tables()
    mixed = Tables(
        **{
            t: getattr(tables, t).sample(fraction=1, shuffle=True, seed=i)
            for i, t in enumerate(TABLES)
        }
    )
    assert_frame_equal(
        model_package.predict(mixed),
        model_package.predict(tables),
        check_exact=False,
        abs_tol=1e-9,
        rel_tol=0,
    )


def test_it_is_scored_once(in_service, some, tmp_path):
    one = score.score(of(in_service), some.path, tmp_path / "a" / "scores.parquet", quiet)
    other = score.score(of(in_service), some.path, tmp_path / "b.parquet", quiet)
    assert other.stage.reused
    assert_frame_equal(pl.read_parquet(one.file), pl.read_parquet(other.file))
    assert pl.read_parquet(one.file)["scored_at"].n_unique() == 1


def test_every_row_says_what_scored_it(in_service, some):
    rows = pl.read_parquet(score.score(of(in_service), some.path, None, quiet).file)
    said = rows.select("model", "version", "extract").unique().row(0)
    assert said == (in_service.name, in_service.version, some.fingerprint)
    assert rows.select(pl.struct("stay_id", "step").is_unique().all()).item()


def test_a_killed_scoring_leaves_nothing(in_service, some, monkeypatch, tmp_path):
    fresh = copied(
        some,
        tmp_path / "fresh",
        lambda t: Tables(t.stays, t.events.head(50), t.treatments, t.episodes),
    )

    def killed(self, tables):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ModelPackage, "predict", killed)
        with pytest.raises(KeyboardInterrupt):
            score.score(of(in_service), fresh.path, tmp_path / "out.parquet", quiet)
    assert not (tmp_path / "out.parquet").exists()
    assert not score.score(of(in_service), fresh.path, None, quiet).stage.reused


def test_nobody_to_score_gives_an_empty_table(in_service, some, tmp_path):
    empty = copied(
        some, tmp_path / "empty", lambda t: Tables(*(getattr(t, table).clear() for table in TABLES))
    )
    done = score.score(of(in_service), empty.path, None, quiet)
    assert (done.stays, done.steps) == (0, 0)
    assert dict(pl.read_parquet_schema(done.file)) == SCORES


def test_what_is_no_risk_is_not_handed_out(in_service, some, monkeypatch, tmp_path):
    fresh = copied(
        some,
        tmp_path / "fresh",
        lambda t: Tables(t.stays, t.events.head(60), t.treatments, t.episodes),
    )
    honest = ModelPackage.predict

    def broken(self, tables):
        return honest(self, tables).with_columns(risk=pl.lit(np.nan))

    with monkeypatch.context() as patch:
        patch.setattr(ModelPackage, "predict", broken)
        with pytest.raises(CheckFailed, match="are no probabilities, the first of stay"):
            score.score(of(in_service), fresh.path, None, quiet)


def test_a_changed_file_is_refused(in_service, some):
    pl.read_parquet(some.path / "events.parquet").head(10).write_parquet(
        some.path / "events.parquet"
    )
    with pytest.raises(CheckFailed, match="sha256 differs"):
        score.score(of(in_service), some.path, None, quiet)


def test_records_of_another_kind_are_refused(in_service, some, tmp_path):
    other = write(
        some.tables(),
        tmp_path / "other",
        provenance(some).model_copy(update={"variables": ("hr",)}),
    )
    with pytest.raises(CheckFailed, match="the extract lacks"):
        score.score(of(in_service), other.path, None, quiet)


def test_a_folder_is_no_file(in_service, some, tmp_path):
    with pytest.raises(FlowsheetError, match="there is a folder of that name"):
        score.score(of(in_service), some.path, tmp_path, quiet)


def test_an_unknown_version_is_a_usage_error(in_service, some):
    with pytest.raises(UsageError, match="has no version 99"):
        score.score(f"{in_service.name}/99", some.path, None, quiet)
