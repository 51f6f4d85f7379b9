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
COMMANDS = Path(__file__).with_name("readme_commands.py")
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


def check_run(command: list[str], lines: list[str], folder: Path) -> None:
    """Run a command that reads the lines from standard input."""
    scripts = Path(sys.executable).parent
    environment = {
        **inherited_environment(),
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(README.parent / "src"),
        "PYTHONWARNINGS": "error::SyntaxWarning",
    }
    result = subprocess.run(
        command,
        input="\n".join(lines),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        encoding="utf-8",
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


@pytest.mark.server
@pytest.mark.parametrize(
    "in_shell", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "as written"]
)
def test_the_console_blocks_run_in_order(tmp_path: Path, in_shell: bool):
    texts = [text for reason, text in console_blocks() if not reason]
    lines = [line for text in texts for line in text.splitlines()]
    if in_shell:
        check_run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], [], tmp_path)
    else:
        quick = [line for line in lines if not line.startswith(SLOW)]
        check_run([sys.executable, str(COMMANDS)], quick, tmp_path)
    assert (tmp_path / "risks.parquet").is_file()
    assert "# " in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "TRIPOD" in (tmp_path / "tripod.md").read_text(encoding="utf-8")
