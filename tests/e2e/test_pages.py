"""The pages that we serve, opened in a browser: they show the run and its models."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from flowsheet.lifecycle.runtime.local_servers import find_free_port
from flowsheet.state.json_files import read_json
from flowsheet.tracking.model_registry import delete_alias, set_alias
from flowsheet.tracking.store import connect
from tests.browser import CHROMIUM, Browser, log_in_to_prefect, open_browser
from tests.e2e.conftest import LONG_TRAINING, flowsheet_command
from tests.e2e.servers import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


_PREFECT_PAGE = re.compile(r"Prefect: (http://\S+)")


@pytest.fixture(scope="module")
def pages(finished: Path) -> Iterator[dict[str, str]]:
    """Addresses of the pages of ``flowsheet ui``, on ports of its own."""
    ports = {name: str(find_free_port()) for name in ("mlflow", "prefect")}
    options = [word for name, port in ports.items() for word in (f"--{name}-port", port)]
    command, environment = flowsheet_command(finished, "ui", *options)
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def test_mlflows_page_lists_the_models_with_their_test_metrics(
    browser: Browser, pages: dict[str, str]
):
    browser.open(f"{pages['mlflow']}/#/experiments/1/runs?viewStateShareKey=models")
    text = browser.wait_for("lstm", "logistic_regression", "test.auroc", "test.new_onsets.auroc")
    for shown in ("lstm", "logistic_regression", "test.auroc", "test.new_onsets.auroc"):
        assert shown in text
    assert "trial 0" not in text
    assert browser.errors == []


def test_mlflows_page_that_compares_runs_opens_on_the_metric_that_ranks_them(
    browser: Browser, pages: dict[str, str], finished: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLOWSHEET_HOME", str(finished))
    runs = connect().search_runs(["1"], "tags.`flowsheet.level` = 'model'")
    ids = quote(json.dumps([run.info.run_id for run in runs]))
    experiments = quote(json.dumps(["1"]))
    browser.open(f"{pages['mlflow']}/#/compare-runs?runs={ids}&experiments={experiments}")
    text = browser.wait_for("Metrics:", "Clear All", "logistic_regression")
    assert text.partition("Metrics:")[2].split()[0] == "test.new_onsets.auroc"
    assert browser.errors == []


def test_prefects_page_shows_a_run_while_it_goes_on(browser: Browser, tmp_path: Path):
    home = tmp_path / "home"
    command, environment = flowsheet_command(home, "run", *LONG_TRAINING)
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stderr
        page = next(match[1] for line in process.stderr if (match := _PREFECT_PAGE.search(line)))
        assert urlsplit(page).port not in {None, 4200}
        log_in_to_prefect(browser, read_json(home / "prefect" / "server.json")["login"])
        browser.open(page)
        text = browser.wait_for("demo", "Running", "experiment: demo")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert "Running" in text
    assert "experiment: demo" in text
    assert "Can't connect" not in text
    assert browser.errors == []
    assert process.returncode == 130


def test_prefects_page_shows_the_run_and_its_trainings(
    browser: Browser, pages: dict[str, str], finished: Path
):
    server = read_json(finished / "prefect" / "server.json")
    log_in_to_prefect(browser, server["login"])
    browser.open(f"{pages['prefect']}/runs")
    text = browser.wait_for("demo", "experiment: demo")
    assert "demo" in text
    assert "experiment: demo" in text
    assert "Can't connect" not in text
    assert browser.errors == []


def test_the_report_names_its_models(browser: Browser, finished: Path):
    (report,) = finished.glob("store/report/*/report.html")
    browser.open(report.as_uri())
    text = browser.wait_for("LSTM", "Logistic regression")
    assert "LSTM" in text
    assert "Logistic regression" in text
    assert "logistic_regression" not in text  # it is in the folded details
    assert browser.errors == []


def test_the_docs_of_a_served_model_name_it(
    browser: Browser, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FLOWSHEET_HOME", str(finished))
    set_alias("demo-lstm", "page", 1)
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["-m", "flowsheet", "serve", "demo-lstm@page", "--port", str(port)]
    server = Server(command, url, f"{url}/ready", {}, tmp_path / "server.log")
    try:
        with server.running():
            browser.open(f"{url}/docs")
            text = browser.wait_for("demo-lstm/1")
    finally:
        delete_alias("demo-lstm", "page")
    assert "This server answers with demo-lstm/1" in text
    assert "known_at" in text
    assert browser.errors == []
