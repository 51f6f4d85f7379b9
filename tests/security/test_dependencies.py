from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_no_dependency_has_a_known_vulnerability():
    pip_audit = os.environ.get("PIP_AUDIT") or shutil.which("pip-audit")
    if not pip_audit:
        pytest.skip("pip-audit is neither installed nor named by PIP_AUDIT")
    command = [pip_audit, "-r", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip"]
    command += ["--progress-spinner", "off", "--desc", "off"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, encoding="utf-8"
    )
    if "ConnectionError" in done.stderr:
        pytest.skip("pip-audit's database of vulnerabilities cannot be reached: not judged")
    skipped = count_skipped(done.stdout)
    assert done.returncode == 0, done.stdout
    if skipped:
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
        pinned = len(re.findall(r"^[\w.-]+==", constraints, re.M))
        pytest.skip(f"{skipped} of {pinned} dependencies were not judged: the index lacks them")


def count_skipped(report: str) -> int:
    """Dependencies of a report that pip-audit could not look up; it exits with 0 all the same."""
    return len(re.findall(r"could not be audited", report))


def test_dependencies_that_were_not_looked_up_are_counted():
    report = """No known vulnerabilities found
Name  Skip Reason
----- -----------------------------------------------------------------
numpy Dependency not found on PyPI and could not be audited: numpy (2.3.4)
polars Dependency not found on PyPI and could not be audited: polars (2.1.0)
"""
    assert count_skipped(report) == 2
    assert count_skipped("No known vulnerabilities found\n") == 0
