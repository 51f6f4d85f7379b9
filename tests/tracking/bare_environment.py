"""A virtual environment with the requirements of a model and nothing else, made without a network.

The installed distributions that a requirement names, and theirs in turn, are linked into it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

_UVICORN = """#!{python}
import sys
from uvicorn import main
sys.exit(main())
"""


def make_environment(folder: Path, requirements: Iterable[str]) -> Path:
    """Create the environment and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = folder / "lib" / version / "site-packages"
    for found in find_closure(requirements).values():
        for name in {file.parts[0] for file in found.files or []}:
            source, target = Path(str(found.locate_file(name))), libraries / name
            if name not in ("..", "__pycache__") and source.exists() and not target.exists():
                target.symlink_to(source)
    python = folder / "bin" / "python"
    command = folder / "bin" / "uvicorn"
    command.write_text(_UVICORN.format(python=python), encoding="utf-8")
    command.chmod(0o755)
    return python


def find_closure(requirements: Iterable[str]) -> dict[str, Distribution]:
    """{name: distribution} of the requirements and of all that they require."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name in found or not is_needed:
            continue
        found[name] = distribution(name)
        assert requirement.specifier.contains(found[name].version, prereleases=True), requirement
        waiting += [Requirement(line) for line in found[name].requires or []]
    return found
