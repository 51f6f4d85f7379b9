"""The worked example in CONTRIBUTING.md: its model passes the suite and takes part in a run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import inherited_environment

FILE = re.compile(r"```(?:python|yaml)\n# (\S+/\S+)\n(.*?)```", re.DOTALL)
PLACES = {
    "src/flowsheet/models/": "src/my_study/models/",
    "conf/model/": "conf/model/",
    "tests/models/": "tests/",
}
"""{folder of the repository: where a project of one's own has such files}."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the files of the example."""
    root = tmp_path_factory.mktemp("example") / "my-study"
    _run(root.parent, "-m", "flowsheet", "init", "my-study")
    files = FILE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(files) == len(PLACES)
    for name, text in files:
        folder = next(place for place in PLACES if name.startswith(place))
        file = root / name.replace(folder, PLACES[folder])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def _run(folder: Path, *arguments: str) -> str:
    environment = {**inherited_environment(), "FLOWSHEET_HOME": str(folder / "home")}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_passes_the_conformance_suite(project: Path):
    options = ["-q", "-p", "no:cacheprovider", "tests/test_linear_discriminant.py"]
    assert "passed" in _run(project, "-m", "pytest", *options)


def test_the_example_takes_part_in_an_experiment(project: Path):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (models,) = re.findall(r"flowsheet run first_look '(models=\S+)' --dry-run", text)
    printed = _run(project, "-m", "flowsheet", "run", "first_look", models, "--dry-run")
    assert "kind: linear_discriminant" in printed
