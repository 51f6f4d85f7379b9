"""Sizes are estimated before a stage begins, and what does not fit is refused with figures."""

from __future__ import annotations

import shutil
import tracemalloc
from collections import namedtuple

import pytest

from flowsheet.compose import compose_cohort
from flowsheet.config import CohortConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.lifecycle.experiment import capacity, prepare
from flowsheet.lifecycle.experiment.capacity import (
    check_experiment,
    check_windows,
    estimate_rows,
    measure_windows,
)
from flowsheet.lifecycle.experiment.prepare import (
    build_windows,
    ingest_cohort,
    make_recipe,
    open_extract,
)
from flowsheet.lifecycle.runtime import resources
from flowsheet.state.store import Store
from flowsheet.windows.sequences import Sequences
from tests.cohort.mimic3_folder import raw_tables, read_folder, write_tables
from tests.tiny import experiment

MINUTE = TaskConfig(name="minutes", step_hours=1 / 60, horizon=60)


def ignore_progress(line: str) -> None:
    pass


def ward(**options: int) -> CohortConfig:
    values = [f"cohort.options.{name}={value}" for name, value in options.items()]
    return compose_cohort("simulated_icu", values)


@pytest.fixture
def small_disk(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2_000, 1_000, 1_000))


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(resources, "usable_memory", lambda: 700_000_000)


@pytest.fixture
def extract():
    return ingest_cohort(ward(stays=100), ignore_progress)


@pytest.mark.parametrize(
    "task",
    [
        TaskConfig(name="days"),
        TaskConfig(name="hours", step_hours=1, horizon=6),
        TaskConfig(name="cut", step_hours=6, max_steps=3),
        TaskConfig(name="once", step_hours=6, at_hours=24),
    ],
    ids=lambda task: task.name,
)
def test_the_estimate_is_near_the_rows_that_are_built(extract, task):
    config = experiment("size", task=task)
    opened = open_extract(extract)
    size = measure_windows(opened, make_recipe(opened, task, config.features))
    sequences = Sequences.load(build_windows(extract, task, config.features).folder / "sequences")
    assert size == (sequences.rows, len(sequences.features))
    source = prepare.make_source(ward(stays=100))
    assert estimate_rows(source.estimate_size(), task) == pytest.approx(size.rows, rel=0.1)


def test_the_estimate_of_an_extract_is_near_its_bytes(extract):
    folder = open_extract(extract).path
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    estimate = prepare.make_source(ward(stays=100)).estimate_bytes()
    assert estimate == pytest.approx(size, rel=0.5)


def test_windows_that_do_not_fit_are_not_begun(extract, small_disk):
    with pytest.raises(CheckFailed, match=r"[\d,]+ rows x [\d,]+ columns.* are free"):
        build_windows(extract, MINUTE, experiment("size").features)
    assert not list((Store.open().root / "windows").glob("*"))


def test_an_absurd_request_is_refused_without_memory_for_its_rows():
    config = experiment("absurd", cohort=ward(stays=10**12), task=MINUTE)
    tracemalloc.start()
    with pytest.raises(CheckFailed, match="rows x"):
        check_experiment(config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_windows_of_raw_tables_that_do_not_fit_are_refused_before_the_ingest(tmp_path, monkeypatch):
    folder = write_tables(tmp_path / "raw", raw_tables())
    source = CohortConfig(name="raw", source="mimic3", path=str(folder))
    size = prepare.make_source(source).estimate_size()
    stays = read_folder(folder).tables.stays
    hours = (stays["discharged_at"] - stays["admitted_at"]).dt.total_seconds().sum() / 3600
    assert size == (stays.height, pytest.approx(hours))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 5 * 10**5, 5 * 10**5))
    with pytest.raises(CheckFailed, match=r"rows x [\d,]+ columns of windows: about"):
        check_experiment(experiment("raw", cohort=source, task=MINUTE))
    (folder / "ICUSTAYS.csv.gz").unlink()
    assert prepare.make_source(source).estimate_size() is None


def test_an_ingest_that_does_not_fit_is_not_begun(small_disk):
    with pytest.raises(CheckFailed, match="extract of the cohort simulated_icu: about"):
        ingest_cohort(ward(stays=101), ignore_progress)
    assert not list((Store.open().root / "extract").glob("*"))


def test_an_experiment_that_fits_passes():
    check_experiment(experiment("small"))


def test_windows_in_the_store_are_not_counted_twice(extract, monkeypatch):
    config = experiment("again", cohort=ward(stays=100))
    build_windows(extract, config.task, config.features)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1_000, 1_000, 0))
    monkeypatch.setattr(capacity, "_STORED_VALUE_BYTES", 0)
    check_experiment(config)


def test_shards_of_a_killed_run_are_not_counted_twice(extract, monkeypatch):
    config = experiment("again", cohort=ward(stays=100))
    build_windows(extract, config.task, config.features)
    opened = open_extract(extract)
    recipe = make_recipe(opened, config.task, config.features)
    other = make_recipe(opened, MINUTE, config.features)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1_000, 1_000, 0))
    monkeypatch.setattr(capacity, "_STORED_VALUE_BYTES", 0)
    check_windows(opened, recipe)
    with pytest.raises(CheckFailed, match="of windows"):
        check_windows(opened, other)


def test_a_training_that_does_not_fit_is_refused(small_memory):
    config = experiment("memory", cohort=ward(stays=50_000))
    with pytest.raises(CheckFailed, match=r"a training on .* of memory, and 700.0 MB are usable"):
        check_experiment(config)


def test_a_training_elsewhere_is_not_judged_by_this_machine(small_memory):
    config = experiment("memory", cohort=ward(stays=50_000))
    check_experiment(
        config.model_copy(update={"compute": config.compute.model_copy(update={"pool": "cpu"})})
    )


def test_too_many_resamples_are_refused():
    config = experiment("resamples")
    many = config.evaluation.model_copy(update={"resamples": 10**10})
    with pytest.raises(CheckFailed, match="10,000,000,000 resamples of"):
        check_experiment(config.model_copy(update={"evaluation": many}))
