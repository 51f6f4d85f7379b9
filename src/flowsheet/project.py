"""A user's project: the folder with ``flowsheet.toml``, found from the working folder upwards.

::

    package = "my_study"      # src/my_study/: own models, sources, metrics, ... as plug-ins
    source_folder = "src"     # default
    conf = "conf"             # own choices, overlaid on the shipped ones; default
    catalogue = "catalogue"   # variables.csv and drugs.csv, which join the catalogue; default

The environment variable ``FLOWSHEET_PROJECT`` names the project's folder for processes that run
elsewhere, such as the workers of a pool.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flowsheet.errors import UsageError, did_you_mean

FILE = "flowsheet.toml"
PROJECT = "FLOWSHEET_PROJECT"
"""Environment variable: the project's folder, where the working folder is elsewhere."""
_KEYS = ("package", "source_folder", "conf", "catalogue")


@dataclass(frozen=True)
class Project:
    """The places of a project."""

    root: Path
    package: str | None = None
    """Name of its Python package; None: it has no code."""
    source_folder: str = "src"
    conf: str = "conf"
    catalogue: str = "catalogue"

    @property
    def import_folder(self) -> Path:
        """The folder that contains the package."""
        return self.root / self.source_folder

    @property
    def conf_folder(self) -> Path:
        """The folder of the project's own choices."""
        return self.root / self.conf

    def concept_file(self, name: str) -> Path:
        """``variables.csv`` or ``drugs.csv`` of the project, which need not exist."""
        return self.root / self.catalogue / name


def current_project() -> Project | None:
    """The project of the working folder; None outside of any project.

    Raises:
        UsageError: ``flowsheet.toml`` is damaged, or ``FLOWSHEET_PROJECT`` is no project.
    """
    configured = os.environ.get(PROJECT)
    if configured:
        file = Path(configured).absolute() / FILE
        if not file.is_file():
            raise UsageError(
                f"{PROJECT} is not the folder of a project: it has no {FILE}",
                where=str(file.parent),
                todo=f"correct or unset {PROJECT}",
            )
        return _load(file, file.stat().st_mtime_ns)
    try:
        working_folder = Path.cwd()
    except OSError:  # it was deleted
        return None
    for folder in (working_folder, *working_folder.parents):
        file = folder / FILE
        if file.is_file():
            return _load(file, file.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=8)
def _load(file: Path, changed_at: int) -> Project:
    """Read the file; ``changed_at`` is a part of the cache's key."""
    del changed_at
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError("the file is not valid TOML", where=str(file), todo=str(error)) from error
    for key, value in values.items():
        if key not in _KEYS:
            what = f"{FILE} has no key {key!r}"
            raise UsageError(what, where=str(file), todo=did_you_mean(key, _KEYS))
        if not isinstance(value, str) or not value:
            raise UsageError(f"{key} must be a text", where=str(file), todo=f'{key} = "..."')
    project = Project(root=file.parent, **values)
    _check_package(project, file)
    return project


def _check_package(project: Project, file: Path) -> None:
    if project.package is None:
        return
    if not project.package.isidentifier():
        what = f"package is not the name of a Python package: {project.package!r}"
        raise UsageError(what, where=str(file), todo="use letters, digits and underscores")
    if not (project.import_folder / project.package).is_dir():
        raise UsageError(
            f"the project's package {project.package!r} does not exist",
            where=str(project.import_folder / project.package),
            todo=f"create the folder, or correct package or source_folder in {file}",
        )
