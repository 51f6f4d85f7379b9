"""prefect.yaml: every deployment names a flow that is there, parameters that it takes, and choices that exist."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import yaml
from cronsim import CronSim
from prefect.flows import load_flow_from_entrypoint

from flowsheet.compose import choices, compose
from tests.conftest import ROOT

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
GROUPS = {"cohort": "cohort", "experiment": "experiment"}


def name(deployment):
    return f"{deployment['entrypoint'].rsplit(':', 1)[1]}/{deployment['name']}"


@pytest.fixture(params=DEPLOYMENTS, ids=name)
def deployment(request):
    return request.param


def test_the_flow_is_there_and_takes_the_parameters(deployment, monkeypatch):
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    given = deployment.get("parameters", {})
    if deployment["entrypoint"].startswith("flows/training.py"):
        assert flow.name == "train"
        return
    assert flow.validate_parameters(given).keys() >= given.keys()


def test_the_choices_exist(deployment):
    given = deployment.get("parameters", {})
    for key, group in GROUPS.items():
        if key in given:
            assert given[key] in choices(group)
    if "choice" in given:
        assert given["choice"] in choices(
            "monitoring" if "monitoring" in deployment["tags"] else "promotion"
        )


def test_the_schedule_can_fire_in_its_time_zone(deployment):
    for schedule in deployment.get("schedules", []):
        now = datetime.now(UTC).astimezone(ZoneInfo(schedule["timezone"]))
        assert next(CronSim(schedule["cron"], now)) > now
    if "training" not in deployment["tags"]:
        assert deployment["schedules"]
        assert deployment["concurrency_limit"]["limit"] == 1
    assert deployment["work_pool"]["name"] in {"cpu", "gpu"}


def test_names_are_unique_and_every_pool_trains():
    names = [name(each) for each in DEPLOYMENTS]
    assert len(names) == len(set(names))
    assert {
        "training/cpu",
        "training/gpu",
        "ingest/nightly",
        "retrain/weekly",
        "scoring/hourly",
    } <= set(names)
    assert {"monitoring/daily", "promotion/weekly"} <= set(names)


@pytest.mark.parametrize("compute", ["cpu_pool", "gpu_pool"])
def test_a_compute_choice_with_a_pool_names_a_deployment(compute):
    pool = compose("demo", [f"compute={compute}"]).compute.pool
    assert f"training/{pool}" in [name(each) for each in DEPLOYMENTS]
