"""Projects that ``flowsheet init`` and ``flowsheet new`` write: they run and pass their tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowsheet.cli import main
from flowsheet.errors import UsageError
from flowsheet.lifecycle.scaffold.scaffold import add_to_project, init_project
from flowsheet.project import current_project

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments: str, folder: Path, package: Path = ROOT / "src") -> str:
    """The output of ``python -m ...`` in the folder."""
    environment = os.environ | {"PYTHONPATH": str(package), "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A new project, the working folder."""
    init_project(tmp_path / "My-Study")
    monkeypatch.chdir(tmp_path / "My-Study")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "My-Study"
    for module in [name for name in sys.modules if name.partition(".")[0] == "my_study"]:
        del sys.modules[module]


def test_a_new_project_passes_its_conformance_tests_and_its_experiment_is_valid(project, capsys):
    add_to_project("metric", "yates_slope")
    add_to_project("database", "north_ward")
    printed = run("pytest", "-q", "-p", "no:cacheprovider", folder=project)
    assert " passed" in printed
    assert "warning" not in printed
    main(["run", "first", "--dry-run"])
    assert "kind: current_row" in capsys.readouterr().out


def test_a_broken_plug_in_is_named_after_the_list_of_the_others(project, capsys):
    (project / "src/my_study/models/broken.py").write_text("import nothing_of_the_kind\n", "utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["ls", "models"])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "gradient_boosting" in printed.out
    assert "broken" not in printed.out
    assert "'broken' cannot be loaded" in printed.err
    assert "broken.py, line 1" in printed.err


def test_the_project_has_its_own_package_and_state_out_of_version_control(project):
    assert current_project().package == "my_study"
    assert ".flowsheet/" in (project / ".gitignore").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "kind", ["model", "source", "database", "response", "metric", "experiment"]
)
def test_new_writes_files_once(project, kind, capsys):
    main(["new", kind, "fresh"])
    assert "fresh" in capsys.readouterr().out
    with pytest.raises(UsageError, match="'fresh' exists"):
        add_to_project(kind, "fresh")


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("modle", "x", 'did you mean "model"'),
        ("model", "lstm", "'lstm' exists"),
        ("experiment", "demo", "'demo' exists"),
        ("metric", "Slope", "is not a name"),
        ("source", "class", "is not a name"),
    ],
)
def test_a_wrong_name_is_refused(project, kind, name, reason):
    with pytest.raises(UsageError) as error:
        add_to_project(kind, name)
    assert reason in str(error.value)


def test_nothing_is_overwritten(project, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="new or empty"):
        init_project(project)
    test_file = project / "tests" / "test_other.py"
    test_file.write_text("# mine\n", encoding="utf-8")
    with pytest.raises(UsageError, match="the file exists"):
        add_to_project("model", "other")
    assert not (project / "src/my_study/models/other.py").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="flowsheet init"):
        add_to_project("model", "other")


@pytest.mark.parametrize("name", ["1st-study", "json", "flowsheet"])
def test_a_folder_that_makes_no_package_is_refused(tmp_path, name):
    with pytest.raises(UsageError):
        init_project(tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.slow
def test_an_installed_wheel_makes_a_project_that_runs(tmp_path):
    wheels, package = tmp_path / "wheels", tmp_path / "package"
    pip = ("pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", str(ROOT), "--no-deps", "-w", str(wheels), folder=tmp_path)
    wheel = next(wheels.glob("*.whl"))
    run(*pip, "install", "--no-deps", "--target", str(package), str(wheel), folder=tmp_path)
    run("flowsheet", "init", "my-study", folder=tmp_path, package=package)
    project = tmp_path / "my-study"
    printed = run("flowsheet", "run", "first", folder=project, package=package)
    assert "registered first-current_row version 1" in printed
    assert " passed" in run("pytest", "-q", folder=project, package=package)
