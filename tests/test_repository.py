"""The files at the repository's root: checks of a change, versions, lock file, citation."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import yaml

from tests.conftest import ROOT


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _toml(path: str) -> dict[str, Any]:
    return tomllib.loads(_read(path))


def test_the_checks_of_a_change_are_the_readmes_test_command():
    lines = _read(".ci/run").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert "make test" in _read("README.md")


def test_the_workflow_runs_the_same_command_and_makes_the_bill_of_materials():
    jobs = yaml.safe_load(_read(".github/workflows/tests.yml"))["jobs"]
    commands = [step.get("run") for job in jobs.values() for step in job["steps"]]
    assert {"make test", "make sbom"} <= set(commands)
    assert re.search(r"cyclonedx-py requirements constraints\.txt", _read("Makefile"))


def test_make_help_lists_every_target():
    (line,) = re.findall(r"^\.PHONY: (.+)$", _read("Makefile"), re.MULTILINE)
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert [row.split()[0] for row in done.stdout.splitlines()] == line.split()


def test_the_lock_file_has_the_pinned_versions_and_the_hashes_of_their_files():
    lock = re.sub(r"\\\n\s*", "", _read("requirements.lock"))
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    assert all("--hash=sha256:" in line for line in lines)
    locked = dict(line.split()[0].split("==") for line in lines)
    pins = re.findall(r"^([\w.-]+)==(\S+)$", _read("constraints.txt"), re.MULTILINE)
    assert pins
    for name, version in pins:
        assert locked[_normalise(name)] == version, name
    requirements = _toml("pyproject.toml")["project"]["dependencies"]
    required = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}
    assert {_normalise(name) for name in required} <= set(locked)


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_citation_names_the_same_authors_and_licence():
    citation = yaml.safe_load(_read("CITATION.cff"))
    project = _toml("pyproject.toml")["project"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in project["authors"]
    ]


def test_templates_of_issues_and_hooks_are_yaml():
    folder = ROOT / ".github/ISSUE_TEMPLATE"
    for name in ("fault.yml", "wish.yml"):
        template = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(template)
    hooks = yaml.safe_load(_read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    assert {"ruff", "ruff-format", "mypy", "import-linter"} <= {hook["id"] for hook in hooks}
