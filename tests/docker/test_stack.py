"""The compose files and the Kubernetes manifests: what they say, and what they must never say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
REQUIRED = {
    "compose.yaml": [
        *("POSTGRES_PASSWORD", "PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD", "OPTUNA_DB_PASSWORD"),
        "PREFECT_AUTH",
    ],
    "compose.worker.yaml": [
        *("PREFECT_API_URL", "PREFECT_AUTH", "MLFLOW_TRACKING_URI", "FLOWSHEET_OPTUNA_URL"),
        *("FLOWSHEET_SHARED", "FLOWSHEET_RECORDS"),
    ],
}
stacks = pytest.mark.parametrize("file", list(REQUIRED))


def services(file: str) -> dict[str, dict]:
    return yaml.safe_load((DOCKER / file).read_text())["services"]


def compose(file: str, told: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if shutil.which("docker-compose"):
        command = ["docker-compose"]
    elif (
        shutil.which("docker")
        and not subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        command = ["docker", "compose"]
    else:
        pytest.skip("docker compose is not installed (Debian: docker-compose)")
    bare = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("POSTGRES", "PREFECT", "MLFLOW", "FLOWSHEET"))
    }
    with tempfile.NamedTemporaryFile() as nothing:  # not the .env of whoever runs this
        line = [*command, "--env-file", nothing.name, "-f", str(DOCKER / file), "config"]
        return subprocess.run(
            line, env={**bare, **told}, capture_output=True, text=True, check=False
        )


def filled(file: str) -> dict[str, str]:
    return {name: f"made-up-{i}" for i, name in enumerate(REQUIRED[file])} | {
        "FLOWSHEET_SHARED": "/srv/flowsheet",
        "FLOWSHEET_RECORDS": "/srv/records",
    }


@stacks
def test_config_passes(file):
    done = compose(file, filled(file))
    assert done.returncode == 0, done.stderr
    known = yaml.safe_load(done.stdout)["services"]
    assert set(known) == set(services(file))
    published = [port for service in known.values() for port in service.get("ports", [])]
    for port in published:
        address = port.get("host_ip") if isinstance(port, dict) else port.rsplit(":", 2)[0]
        assert address == "127.0.0.1"


@stacks
def test_nothing_starts_while_a_required_value_is_missing(file):
    for name in REQUIRED[file]:
        done = compose(file, filled(file) | {name: ""})
        assert done.returncode != 0, name
        assert name in done.stderr or "Missing mandatory value" in done.stderr


@stacks
def test_every_password_has_to_be_given(file):
    asked = re.findall(
        r"\$\{(\w*(?:PASSWORD|AUTH|OPTUNA_URL)\w*)(:-[^}]*|:\?[^}]*)?\}",
        (DOCKER / file).read_text(),
    )
    for name, default in asked:
        assert default.startswith(":?") or default == ":-", (
            name
        )  # ":-": MLflow's, where a proxy wants none
    assert not re.search(r"postgresql\S*://\w+:(?!\$\{)[^.]", (DOCKER / file).read_text())


def test_the_example_names_every_required_value_and_gives_none():
    lines = (DOCKER / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(REQUIRED["compose.yaml"]) <= set(given)
    assert {name for name, value in given.items() if value} == {"COMPOSE_PROJECT_NAME"}


@stacks
def test_every_service_is_kept_small(file):
    for name, service in services(file).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert "privileged" not in service
        assert not {"host", "docker.sock"} & set(map(str, service.get("volumes", [])))


def test_servers_are_waited_for_until_they_are_healthy():
    for name, service in services("compose.yaml").items():
        for condition in service.get("depends_on", {}).values():
            assert condition == {"condition": "service_healthy"}
        if name != "postgres":
            assert service["depends_on"]
    assert services("compose.yaml")["postgres"]["healthcheck"]


def test_images_are_pinned():
    assert re.fullmatch(
        r"postgres:\d+\.\d+-\w+@sha256:[0-9a-f]{64}", services("compose.yaml")["postgres"]["image"]
    )
    for file in REQUIRED:
        for name, service in services(file).items():
            if name != "postgres":
                assert (DOCKER.parent / service["build"]["dockerfile"]).is_file()


def manifests() -> list[dict]:
    return [
        document
        for file in sorted((DOCKER / "kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    ]


def jobs() -> dict[str, dict]:
    return {
        file.name: json.loads(file.read_text())
        for file in sorted((DOCKER / "kubernetes").glob("*.json"))
    }


def pods() -> list[dict]:
    templates = [m["spec"]["template"]["spec"] for m in manifests() if m["kind"] == "Deployment"]
    return templates + [
        job["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        for job in jobs().values()
    ]


def test_pods_run_as_nobody_in_particular():
    assert len(pods()) == 4
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= set(container["resources"])
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_no_manifest_holds_a_secret():
    assert "Secret" not in {m["kind"] for m in manifests()}
    text = "".join(file.read_text() for file in (DOCKER / "kubernetes").iterdir())
    assert not re.search(r"(?i)password|://", text)


def test_every_place_in_a_job_template_has_its_variable():
    for name, template in jobs().items():
        used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
        assert used == set(template["variables"]["properties"]), name


def test_a_job_template_holds_all_that_the_worker_of_this_prefect_asks_for():
    from prefect.server.api import collections_data

    known = next(Path(collections_data.__path__[0]).rglob("aggregate-worker-metadata.json"))
    theirs = json.loads(known.read_text())["prefect-kubernetes"]["kubernetes"][
        "default_base_job_configuration"
    ]
    for template in jobs().values():
        assert set(template["job_configuration"]) == set(theirs["job_configuration"]) - {
            "cluster_config"
        }


def test_what_manifests_refer_to_is_among_them():
    made = {(m["kind"], m["metadata"]["name"]) for m in manifests()}
    for pod in pods():
        account = pod["serviceAccountName"]
        assert account.startswith("{{") or ("ServiceAccount", account) in made
    for template in jobs().values():
        defaults = {k: v.get("default") for k, v in template["variables"]["properties"].items()}
        assert ("ServiceAccount", defaults["service_account_name"]) in made
        assert ("PersistentVolumeClaim", defaults["home_claim"]) in made
        assert ("Namespace", defaults["namespace"]) in made
