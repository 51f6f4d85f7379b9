"""Every deployment in prefect.yaml names a flow, parameters and choices that exist."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import yaml
from cronsim import CronSim
from prefect.flows import load_flow_from_entrypoint

from flowsheet.compose import choices, compose
from flowsheet.lifecycle.runtime.local_servers import QUIET_SETTINGS
from tests.conftest import ROOT

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
CONF_GROUPS = {"cohort": "cohort", "experiment": "experiment"}


def full_name(deployment):
    function = deployment["entrypoint"].rsplit(":", 1)[1]
    return f"{function}/{deployment['name']}"


@pytest.fixture(params=DEPLOYMENTS, ids=full_name)
def deployment(request):
    return request.param


def test_the_flow_exists_and_accepts_the_parameters(deployment, monkeypatch):
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    parameters = deployment.get("parameters", {})
    if deployment["entrypoint"].startswith("flows/training.py"):
        assert flow.name == "train"
        return
    assert flow.validate_parameters(parameters).keys() >= parameters.keys()


def test_the_choices_exist(deployment):
    parameters = deployment.get("parameters", {})
    for name, group in CONF_GROUPS.items():
        if name in parameters:
            assert parameters[name] in choices(group)
    if "config" in parameters:
        group = "monitoring" if "monitoring" in deployment["tags"] else "promotion"
        assert parameters["config"] in choices(group)


def test_the_schedule_is_valid_in_its_time_zone(deployment):
    for schedule in deployment.get("schedules", []):
        now = datetime.now(UTC).astimezone(ZoneInfo(schedule["timezone"]))
        assert next(CronSim(schedule["cron"], now)) > now
    if "training" not in deployment["tags"]:
        assert deployment["schedules"]
        assert deployment["concurrency_limit"]["limit"] == 1
    assert deployment["work_pool"]["name"] in {"cpu", "gpu"}


def test_prefect_reads_the_quiet_settings_when_the_process_starts(deployment):
    environment = deployment["work_pool"]["job_variables"]["env"]
    server_only = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "PREFECT_SERVER_ANALYTICS_ENABLED"}
    assert environment == {k: v for k, v in QUIET_SETTINGS.items() if k not in server_only}


def test_names_are_unique_and_every_pool_has_a_training_deployment():
    names = [full_name(deployment) for deployment in DEPLOYMENTS]
    assert len(names) == len(set(names))
    assert set(names) == {
        "training/cpu",
        "training/gpu",
        "ingest/nightly",
        "retrain/weekly",
        "scoring/hourly",
        "monitoring/daily",
        "outcomes/monthly",
        "promotion/weekly",
        "close_dead_runs/regular",
    }


@pytest.mark.parametrize("compute", ["cpu_pool", "gpu_pool"])
def test_a_compute_choice_with_a_pool_names_a_deployment(compute):
    pool = compose("demo", [f"compute={compute}"]).compute.pool
    assert f"training/{pool}" in [full_name(deployment) for deployment in DEPLOYMENTS]
