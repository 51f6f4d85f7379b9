"""A Prefect database whose tables exist, so that not every test's server makes its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock


def make_database(folder: Path) -> Path:
    """The file of an empty Prefect database; the processes of one test session share it."""
    file = folder / "prefect.db"
    with FileLock(folder / "prefect.lock"):
        if not file.exists():
            _migrate(folder / "new")
            (folder / "new" / "prefect.db").rename(file)
    return file


def _migrate(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PREFECT_")}
    subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
        env={**environment, "PREFECT_HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def copy_database(file: Path, home: Path) -> None:
    """Put the database where the server of a state folder looks for it."""
    (home / "prefect").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, home / "prefect" / "prefect.db")
