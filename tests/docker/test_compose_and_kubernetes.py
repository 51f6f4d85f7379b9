"""The compose files and the Kubernetes manifests: required values, hardening, and no secrets."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from uuid import uuid4

import kubernetes_validate
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
each_compose_file = pytest.mark.parametrize("file", list(REQUIRED))


def read_services(file: str) -> dict[str, dict]:
    return yaml.safe_load((DOCKER / file).read_text(encoding="utf-8"))["services"]


def compose_command() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker"):
        version = ["docker", "compose", "version"]
        if subprocess.run(version, capture_output=True, check=False).returncode == 0:
            return ["docker", "compose"]
    pytest.skip("docker compose is not installed (Debian: docker-compose)")


def compose_config(file: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``docker compose config`` with these variables alone."""
    environment = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("POSTGRES", "PREFECT", "MLFLOW", "FLOWSHEET"))
    }
    with tempfile.NamedTemporaryFile() as empty_file:  # instead of docker/.env
        options = ["--env-file", empty_file.name, "-f", str(DOCKER / file)]
        return subprocess.run(
            [*compose_command(), *options, "config"],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            encoding="utf-8",
        )


def required_values(file: str) -> dict[str, str]:
    values = {name: f"made-up-{i}" for i, name in enumerate(REQUIRED[file])}
    folders = {"FLOWSHEET_SHARED": "/srv/flowsheet", "FLOWSHEET_RECORDS": "/srv/records"}
    return values | folders


@each_compose_file
def test_the_configuration_is_valid_and_publishes_ports_on_loopback_only(file):
    result = compose_config(file, required_values(file))
    assert result.returncode == 0, result.stderr
    services = yaml.safe_load(result.stdout)["services"]
    assert set(services) == set(read_services(file))
    for service in services.values():
        for port in service.get("ports", []):
            address = port.get("host_ip") if isinstance(port, dict) else port.rsplit(":", 2)[0]
            assert address == "127.0.0.1"


@each_compose_file
def test_nothing_starts_while_a_required_value_is_missing(file):
    for name in REQUIRED[file]:
        result = compose_config(file, required_values(file) | {name: ""})
        assert result.returncode != 0, name
        assert name in result.stderr or "Missing mandatory value" in result.stderr


@each_compose_file
def test_no_password_has_a_default(file):
    text = (DOCKER / file).read_text(encoding="utf-8")
    variables = re.findall(
        r"\$\{(\w*(?:PASSWORD|AUTH|OPTUNA_URL)\w*)(:-[^}]*|:\?[^}]*)?\}",
        text,
    )
    for name, default in variables:
        # ":-" alone: MLflow's password, which only a proxy asks for
        assert default.startswith(":?") or default == ":-", name
    assert not re.search(r"postgresql\S*://\w+:(?!\$\{)[^.]", text)


def test_the_example_lists_every_required_value_and_contains_none():
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(REQUIRED["compose.yaml"]) <= set(values)
    assert {name for name, value in values.items() if value} == {"COMPOSE_PROJECT_NAME"}


@each_compose_file
def test_every_service_is_hardened_and_limited(file):
    for name, service in read_services(file).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert "privileged" not in service
        assert not {"host", "docker.sock"} & set(map(str, service.get("volumes", [])))


def test_services_start_when_those_they_depend_on_are_healthy():
    services = read_services("compose.yaml")
    for name, service in services.items():
        for condition in service.get("depends_on", {}).values():
            assert condition == {"condition": "service_healthy"}
        if name != "postgres":
            assert service["depends_on"]
    assert services["postgres"]["healthcheck"]


def test_images_are_pinned_or_built_here():
    postgres_image = read_services("compose.yaml")["postgres"]["image"]
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+@sha256:[0-9a-f]{64}", postgres_image)
    for file in REQUIRED:
        for name, service in read_services(file).items():
            if name != "postgres":
                assert (DOCKER.parent / service["build"]["dockerfile"]).is_file()


def read_manifests() -> list[dict]:
    """All resources of the kustomize base."""
    return [
        document
        for file in read_kustomization()["resources"]
        for document in yaml.safe_load_all(
            (DOCKER / "kubernetes" / file).read_text(encoding="utf-8")
        )
    ]


def read_kustomization() -> dict:
    return yaml.safe_load((DOCKER / "kubernetes/kustomization.yaml").read_text(encoding="utf-8"))


def read_job_templates() -> dict[str, dict]:
    files = sorted((DOCKER / "kubernetes").glob("*.json"))
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def read_pods() -> list[dict]:
    deployments = [m for m in read_manifests() if m["kind"] == "Deployment"]
    jobs = [
        template["job_configuration"]["job_manifest"] for template in read_job_templates().values()
    ]
    return [manifest["spec"]["template"]["spec"] for manifest in (*deployments, *jobs)]


def test_pods_are_unprivileged_and_limited():
    assert len(read_pods()) == 4
    for pod in read_pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= set(container["resources"])
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_no_manifest_contains_a_secret():
    assert "Secret" not in {m["kind"] for m in read_manifests()}
    text = "".join(file.read_text(encoding="utf-8") for file in (DOCKER / "kubernetes").iterdir())
    assert not re.search(r"(?i)password|://", text)


def test_every_placeholder_of_a_job_template_has_its_variable():
    for name, template in read_job_templates().items():
        used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
        assert used == set(template["variables"]["properties"]), name


def test_a_job_template_has_every_setting_of_this_prefects_kubernetes_worker():
    from prefect.server.api import collections_data

    package_folder = Path(collections_data.__path__[0])
    metadata_file = next(package_folder.rglob("aggregate-worker-metadata.json"))
    worker = json.loads(metadata_file.read_text(encoding="utf-8"))["prefect-kubernetes"][
        "kubernetes"
    ]
    default_settings = worker["default_base_job_configuration"]["job_configuration"]
    for template in read_job_templates().values():
        assert set(template["job_configuration"]) == set(default_settings) - {"cluster_config"}


def test_referenced_resources_are_among_the_manifests():
    resources = {(m["kind"], m["metadata"]["name"]) for m in read_manifests()}
    for pod in read_pods():
        account = pod["serviceAccountName"]
        assert account.startswith("{{") or ("ServiceAccount", account) in resources
    for template in read_job_templates().values():
        properties = template["variables"]["properties"]
        defaults = {name: value.get("default") for name, value in properties.items()}
        assert ("ServiceAccount", defaults["service_account_name"]) in resources
        assert ("PersistentVolumeClaim", defaults["home_claim"]) in resources
        assert ("PersistentVolumeClaim", defaults["records_claim"]) in resources
        assert ("Namespace", defaults["namespace"]) in resources


AUTH_STRING = "flowsheet:made-up-password"
VALID_VERSION = "1.34"


def render_job(template: dict, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The job that a worker makes of the template, as prefect-kubernetes does: with Prefect's code
    for the configuration, and its environment as a list."""
    from prefect.client.schemas.objects import FlowRun
    from prefect.context import root_settings_context
    from prefect.settings import temporary_settings
    from prefect.utilities.templating import apply_values
    from prefect.workers.base import BaseJobConfiguration

    monkeypatch.setenv("PREFECT_API_AUTH_STRING", AUTH_STRING)
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    values = {"env": {"PREFECT_CLIENT_MAX_RETRIES": "6"}}
    with root_settings_context(), temporary_settings():
        configuration = asyncio.run(BaseJobConfiguration.from_template_and_values(template, values))
        configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="train"))
    properties = template["variables"]["properties"]
    defaults = {name: value["default"] for name, value in properties.items() if "default" in value}
    environment = [{"name": name, "value": value} for name, value in configuration.env.items()]
    manifest = apply_values(
        template["job_configuration"]["job_manifest"],
        {**defaults, "env": environment, "labels": {}, "name": "train", "command": ["prefect"]},
    )
    manifest["metadata"]["name"] = manifest["metadata"].pop("generateName") + "1"
    return manifest


@pytest.mark.parametrize("file", ["job-cpu.json", "job-gpu.json"])
def test_a_rendered_job_is_valid_and_reads_the_password_from_the_secret(file, monkeypatch):
    job = render_job(read_job_templates()[file], monkeypatch)
    kubernetes_validate.validate(job, VALID_VERSION, strict=True)
    assert "made-up-password" not in json.dumps(job)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["PREFECT_API_URL"] == "http://prefect:4200/api"
    assert environment["PREFECT_CLIENT_MAX_RETRIES"] == "6"
    assert "PREFECT_API_AUTH_STRING" not in environment
    assert container["envFrom"] == [{"secretRef": {"name": "flowsheet"}}]
    unprotected = copy.deepcopy(read_job_templates()[file])
    del unprotected["variables"]["properties"]["env"]["default"]
    assert "made-up-password" in json.dumps(render_job(unprotected, monkeypatch))
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["records"] == {"name": "records", "mountPath": "/records", "readOnly": True}


def test_every_resource_is_valid():
    for manifest in read_manifests():
        kubernetes_validate.validate(manifest, VALID_VERSION, strict=True)


def test_the_base_has_every_manifest_of_the_folder():
    files = {file.name for file in (DOCKER / "kubernetes").glob("*.yaml")}
    assert files == {"kustomization.yaml", *read_kustomization()["resources"]}
    images = {image["name"] for image in read_kustomization()["images"]}
    assert images == {"flowsheet-serving"}
    namespaces = {m["metadata"].get("namespace") for m in read_manifests()}
    assert namespaces == {None, read_kustomization()["namespace"]}  # None: the namespace itself


def find(kind: str) -> list[dict]:
    return [manifest for manifest in read_manifests() if manifest["kind"] == kind]


def test_serving_is_scaled_survives_drained_nodes_and_is_open_to_its_clients_alone():
    (deployment,) = [m for m in find("Deployment") if m["metadata"]["name"] == "flowsheet-serving"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (scaler,), (budget,) = find("HorizontalPodAutoscaler"), find("PodDisruptionBudget")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "flowsheet-serving"
    assert "replicas" not in deployment["spec"]  # another apply would undo the scaling
    assert scaler["spec"]["minReplicas"] > budget["spec"]["minAvailable"] >= 1
    assert budget["spec"]["selector"]["matchLabels"] == labels
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in find("NetworkPolicy")}
    assert policies["no-ingress"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert policies["serving-clients"]["podSelector"]["matchLabels"] == labels
    (rule,) = policies["serving-clients"]["ingress"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert [port["port"] for port in rule["ports"]] == [container["ports"][0]["containerPort"]]


def test_no_file_names_a_release_whose_only_place_is_the_git_tag():
    names = []
    for file in sorted(DOCKER.rglob("*")):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            names += re.findall(r"(?:\bflowsheet-[a-z-]+:|newTag: *)(\$\{[^}]+\}|[\w.-]+)", text)
    assert names
    assert set(names) == {"unreleased", "${FLOWSHEET_VERSION:-unreleased}"}
