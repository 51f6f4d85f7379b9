"""The README's console blocks run, in order, in an empty folder.

A block that cannot run here has a comment before it with the reason: ``<!-- not run: ... -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import inherited_environment

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```console\n(.*?)```", re.DOTALL)
SLOW = ("flowsheet rerun",)


def console_blocks() -> list[tuple[str, str]]:
    """(reason why it is not run, text) of each block."""
    return BLOCK.findall(README.read_text(encoding="utf-8"))


def test_most_commands_are_run_and_the_others_have_a_reason():
    run = [text for reason, text in console_blocks() if not reason]
    commands = {
        line.split()[1] for text in run for line in text.splitlines() if "flowsheet" in line
    }
    expected = {"run", "report", "compare", "promote", "score", "card", "validate", "schema", "ls"}
    assert commands >= expected


@pytest.mark.server
@pytest.mark.parametrize(
    "with_slow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "all"]
)
def test_the_console_blocks_run_in_order(tmp_path: Path, with_slow: bool):
    scripts = Path(sys.executable).parent
    source = README.parent / "src"
    environment = {
        **inherited_environment(),
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(source),
        "PYTHONWARNINGS": "error::SyntaxWarning",
    }
    for reason, text in console_blocks():
        if reason:
            continue
        lines = [line for line in text.splitlines() if with_slow or not line.startswith(SLOW)]
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            encoding="utf-8",
        )
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
    assert (tmp_path / "risks.parquet").is_file()
    assert "# " in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "TRIPOD" in (tmp_path / "tripod.md").read_text(encoding="utf-8")
