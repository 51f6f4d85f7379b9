"""Run lines of the README one after the other; ``python readme_commands.py < LINES``.

Commands of ``flowsheet`` run in this process, which imports the libraries once. What starts servers
and worker processes, and every other program, runs in a shell of its own.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path

from flowsheet.cli import main

IN_A_SHELL = ("run", "rerun")


def run_line(line: str) -> int:
    """The exit code of a line."""
    program, *arguments = shlex.split(line, comments=True)
    starts_servers = arguments[:1] and arguments[0] in IN_A_SHELL and "--dry-run" not in arguments
    if program != "flowsheet" or starts_servers:
        command = ["bash", "-euo", "pipefail", "-c", line]
        return subprocess.run(command, check=False).returncode
    with contextlib.ExitStack() as stack:
        if ">" in arguments:
            *arguments, _, target = arguments
            file = stack.enter_context(Path(target).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(file))
        try:
            main(arguments)
        except SystemExit as error:
            return int(error.code or 0)
    return 0


if __name__ == "__main__":
    for number, text in enumerate(sys.stdin.read().splitlines(), 1):
        if text.strip() and (code := run_line(text)):
            raise SystemExit(f"line {number} ended with exit code {code}: {text}")
