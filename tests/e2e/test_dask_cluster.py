"""An experiment on a Dask cluster gives what worker processes give, stages included."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.state.json_files import read_json
from tests.cohort.divided_ingest import read_files
from tests.cohort.mimic3_folder import raw_tables, write_tables
from tests.e2e.conftest import inherited_environment

pytestmark = [pytest.mark.server, pytest.mark.slow]
EXPERIMENT = [
    "demo",
    "cohort=simulated_small",
    "cohort.options.stays=60",
    "task=early_warning",
    "models=[logistic_regression,gradient_boosting,lstm]",
    "models.lstm.params.hidden=8",
    "models.lstm.params.epochs=2",
    "models.lstm.trials=1",
    "models.logistic_regression.trials=1",
    "models.gradient_boosting.trials=1",
    "evaluation.resamples=300",
]
MODELS = 3
SAME = ("extract", "shard", "windows", "split", "predictions", "resamples", "evidence")
"""Kinds of stages whose files are the same to the last byte."""


TCP_VARIABLE = "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP"
TCP_TIMEOUT = "300s"
"""After which Dask takes a silent connection for dead."""
ANY_FINDINGS = (0, 1, 3)
"""Exit codes of ``flowsheet monitor``: nothing, something, or too little to say has changed."""


def run_with_small_pieces(
    home: Path, *arguments: str, address: str = "", exit_codes: Sequence[int] = (0,)
) -> str:
    """Run the command line with small shards; returns what it prints while it runs."""
    environment = {**inherited_environment(), "FLOWSHEET_HOME": str(home)}
    if address:
        environment["FLOWSHEET_DASK_ADDRESS"] = address
        environment[TCP_VARIABLE] = TCP_TIMEOUT
    command = [sys.executable, "-m", "tests.e2e.clusters", *arguments]
    result = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=1_800,
        check=False,
    )
    assert result.returncode in exit_codes, result.stdout + result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two processes with 3 GB each, which they declare.

    The scheduler, which runs in this process, and the workers import the modules of the tasks that
    they get. While they did, a busy machine would take them for dead, and the run would wait for
    ever: so they do it before, and are waited for longer.
    """
    distributed = pytest.importorskip("distributed", reason="flowsheet[dask] is not installed")
    dask = import_module("dask")
    import_module("flows.experiment")
    patient = dask.config.set({"distributed.comm.timeouts.tcp": TCP_TIMEOUT})
    home = str(tmp_path_factory.getbasetemp() / "on_dask")
    with (
        patient,
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit="3GB",
            resources={"MEMORY": 3e9},
            host="127.0.0.1",
            dashboard_address=None,
            env={"FLOWSHEET_HOME": home, TCP_VARIABLE: TCP_TIMEOUT},
        ) as running,
    ):
        with distributed.Client(running) as client:
            client.run(import_module, "flows.experiment")
        yield running


@pytest.fixture(scope="module")
def homes(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """State folders with the experiment: by worker processes, and by the cluster."""
    homes = {name: tmp_path_factory.getbasetemp() / f"on_{name}" for name in ("process", "dask")}
    run_with_small_pieces(homes["process"], "run", *EXPERIMENT, "compute.workers=2")
    address = cluster.scheduler_address
    log = run_with_small_pieces(homes["dask"], "run", *EXPERIMENT, "compute=dask", address=address)
    shards = re.search(r"(\d+) shards to build", log)
    assert shards
    assert int(shards[1]) >= 4
    assert "pieces of the resamples" in log
    return homes


def read_checksums(home: Path, kind: str) -> dict[str, dict[str, str]]:
    """{stage: {file: sha256}} of the stages of a kind."""
    stages = sorted((home / "store" / kind).glob("[!.]*"))
    return {stage.name: read_json(stage / "stage.json")["sha256"] for stage in stages}


@pytest.mark.parametrize("kind", SAME)
def test_all_stages_are_the_same_to_the_last_byte(homes: dict[str, Path], kind: str):
    by_processes = read_checksums(homes["process"], kind)
    assert by_processes == read_checksums(homes["dask"], kind)
    assert by_processes


def test_the_models_predict_the_same_risks(homes: dict[str, Path]):
    """Their folders differ in the seconds that trials took."""
    names = ("test.npy", "valid.npy")
    by_runner = {
        runner: {
            stage: [checksums[name] for name in names]
            for stage, checksums in read_checksums(home, "model").items()
        }
        for runner, home in homes.items()
    }
    assert len(by_runner["process"]) == MODELS
    assert by_runner["process"] == by_runner["dask"]


def test_the_cluster_scores_batches_of_stays(cluster: Any, homes: dict[str, Path], tmp_path: Path):
    home = homes["dask"]
    (extract,) = (home / "store" / "extract").glob("*/extract")
    score = ["score", "demo-lstm/1", str(extract), "--out"]
    log = run_with_small_pieces(
        *(home, *score, str(tmp_path / "dask.parquet"), "--workers", "2", "--runner", "dask"),
        address=cluster.scheduler_address,
    )
    assert "3 batches of stays" in log
    run_with_small_pieces(homes["process"], *score, str(tmp_path / "one.parquet"))
    by_cluster = pl.read_parquet(tmp_path / "dask.parquet").drop("scored_at")
    assert by_cluster.equals(pl.read_parquet(tmp_path / "one.parquet").drop("scored_at"))


def test_the_cluster_profiles_batches_of_stays(cluster: Any, homes: dict[str, Path]):
    (extract,) = (homes["dask"] / "store" / "extract").glob("*/extract")
    monitor = ["monitor", "demo-lstm/1", str(extract)]
    log = run_with_small_pieces(
        *(homes["dask"], *monitor, "--workers", "2", "--runner", "dask"),
        address=cluster.scheduler_address,
        exit_codes=ANY_FINDINGS,
    )
    assert "3 batches of stays" in log
    run_with_small_pieces(homes["process"], *monitor, exit_codes=ANY_FINDINGS)
    findings = [
        pl.read_parquet(next((home / "store" / "monitoring").glob("*/findings.parquet")))
        for home in homes.values()
    ]
    assert findings[0].height
    assert findings[0].equals(findings[1])


def test_the_cluster_and_worker_processes_build_the_extract_of_one_process(
    cluster: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    raw = write_tables(tmp_path / "raw", raw_tables())
    home = tmp_path_factory.getbasetemp() / "on_dask"
    options = ("cohort.options.stays_per_batch=1", "cohort.allow_empty=true")
    ingest = ("ingest", "mimic3", str(raw), *options, "--out")
    run_with_small_pieces(home, *ingest, str(tmp_path / "one"))
    for runner, address in (("process", ""), ("dask", cluster.scheduler_address)):
        workers = ("--workers", "2", "--runner", runner)
        out = tmp_path / runner
        log = run_with_small_pieces(home, *ingest, str(out), *workers, address=address)
        assert "4 groups of stays, in 2 processes" in log
        assert "built one at a time" not in log
        assert read_files(out) == read_files(tmp_path / "one")
    assert not list((home / "spill").iterdir())
