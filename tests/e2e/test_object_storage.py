"""Experiments on an S3 server: killed, cut off and started again, on one machine or another."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cli import main
from flowsheet.cohort.remote_extracts import local_extract
from flowsheet.tracking.store import connect
from tests.conftest import ROOT
from tests.e2e.conftest import flowsheet_command, run_flowsheet
from tests.e2e.servers import mlflow_server
from tests.e2e.stack import wait_until
from tests.s3_server import S3Server, folder

pytestmark = [pytest.mark.slow, pytest.mark.server]
EXPERIMENT = [
    "demo",
    "cohort=extract",
    "models=[logistic_regression]",
    "models.logistic_regression.trials=2",
    "evaluation.resamples=50",
]
REMOTE = [*EXPERIMENT, "cohort.path=s3://hospital/ward"]


def _run(home: Path, **environment: str) -> subprocess.Popen[bytes]:
    command, inherited = flowsheet_command(home, "run", *REMOTE)
    settings = {"FLOWSHEET_STORE": "s3://hospital/store", "FLOWSHEET_LEASE_SECONDS": "2"}
    with (home.parent / f"{home.name}.log").open("ab") as log:
        variables = {**inherited, **settings, **environment}
        return subprocess.Popen(command, env=variables, stdout=log, stderr=log)


def _read_log(home: Path) -> str:
    return (home.parent / f"{home.name}.log").read_text(encoding="utf-8")


def _read_predictions(home: Path) -> pl.DataFrame:
    (file,) = (home / "store" / "evidence").glob("[!.]*/predictions.parquet")
    return pl.read_parquet(file)


def test_an_experiment_goes_on_after_kills_and_outages_with_the_same_figures(
    s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(["simulate", "s3://hospital/ward", "--stays", "200", "--cohort", "simulated_small"])
    first, second, undisturbed = (tmp_path / name for name in ("first", "second", "local"))

    s3.stop_before = r"PUT /hospital/store/model/\w+/stage\.json"
    process = _run(first, FLOWSHEET_STORAGE_RETRY_SECONDS="60")
    commit = re.compile(s3.stop_before)
    wait_until(lambda: any(map(commit.search, s3.requests)), 300)
    process.kill()  # when all files of the model are there, but not what names them
    process.wait()
    s3.stop_before = None

    s3.stop()
    cut_off = _run(second, FLOWSHEET_STORAGE_RETRY_SECONDS="2")
    assert cut_off.wait(600) == 1
    assert "the object store does not answer" in _read_log(second)
    assert "Traceback" not in _read_log(second)
    s3.start()

    process = _run(second, FLOWSHEET_STORAGE_RETRY_SECONDS="60")
    wait_until(lambda: "[windows]" in _read_log(second) or process.poll() is not None, 300)
    s3.stop()
    time.sleep(3)
    s3.start()
    assert process.wait(600) == 0, _read_log(second)
    assert "[logistic_regression] reused" not in _read_log(second)
    assert not (folder("store") / ".leases").list()

    again = _run(first)
    assert again.wait(600) == 0, _read_log(first)
    assert "[logistic_regression] reused" in _read_log(first)

    result = run_flowsheet(
        undisturbed, "run", *EXPERIMENT, f"cohort.path={local_extract(folder('ward'))}"
    )
    assert result.returncode == 0, result.stderr
    expected = _read_predictions(undisturbed)
    assert _read_predictions(first).equals(expected)
    assert _read_predictions(second).equals(expected)


def test_registered_models_are_loaded_from_an_mlflow_server_with_s3(
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    main(["simulate", "s3://hospital/ward", "--stays", "60", "--cohort", "simulated_small"])
    server = mlflow_server(tmp_path)
    server.command[-1] = "s3://hospital/mlflow"  # --artifacts-destination
    with server.running():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        monkeypatch.setenv("FLOWSHEET_STORE", "s3://hospital/store")
        command, _ = flowsheet_command(tmp_path / "home", "run", *REMOTE)
        assert subprocess.run(command, check=False, timeout=600).returncode == 0
        names = [entry.name for entry in folder("mlflow").list()]
        assert any(name.endswith("/code.zip") for name in names)
        assert connect().get_model_version("demo-logistic_regression", "1").status == "READY"
        score = ["score", "demo-logistic_regression/1", "s3://hospital/ward"]
        capsys.readouterr()
        main([*score, "--out", "s3://hospital/scores/risks.parquet"])
        assert "s3://hospital/scores/risks.parquet" in capsys.readouterr().out
        (risks,) = folder("scores").list()
        assert risks.name == "risks.parquet"
        assert risks.size > 1000

        s3.stop()
        with pytest.raises(SystemExit) as stopped:
            main(score)
        assert stopped.value.code == 1
        assert "the object store does not answer" in capsys.readouterr().err
        s3.start()
        main(score)


def test_the_commands_of_the_page_run(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    page = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    for line in "".join(blocks).splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if program == "export":
            monkeypatch.setenv(*arguments[0].split("=", 1))
        else:
            assert program == "flowsheet"
            main(arguments)
    assert "shared extract" in capsys.readouterr().out
