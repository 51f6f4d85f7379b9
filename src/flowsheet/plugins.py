"""Find implementations by name: Flowsheet's own, those of installed packages, and the project's.

A registry of models finds ``lstm`` in three places, without a central list:

- the module ``flowsheet/models/lstm.py``;
- an entry point ``lstm`` of the group ``flowsheet.models`` of any installed package;
- the module ``src/PACKAGE/models/lstm.py`` of the current project (``flowsheet.project``).

The other kinds work in the same way, each with its own group and folder: ``sources``, ``metrics``
and so on.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from typing import Generic, TypeVar

from flowsheet.errors import FlowsheetError, UsageError, did_you_mean, first_line
from flowsheet.project import Project, current_project

T = TypeVar("T")
_NOTEBOOK = "__main__"
"""The module of classes that are defined in a notebook or a script."""


@dataclass(frozen=True)
class Origin:
    """Where an implementation comes from."""

    place: str
    """For people, such as ``my_study.models.persistence``."""
    load: Callable[[], object]
    """Import it: a class, or a module that registers one."""


class Registry(Generic[T]):
    """The classes of one kind, each under a name.

    A module is imported when its name is first looked up: the module ``models/lstm.py`` contains
    the model ``lstm``. Modules that begin with an underscore, and ``base``, contain none.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._classes: dict[str, type[T]] = {}

    @property
    def group(self) -> str:
        """The entry points' group, such as ``flowsheet.models``."""
        return f"flowsheet.{self.folder}"

    @property
    def folder(self) -> str:
        """The folder of a project's package, such as ``models``."""
        return f"{self.kind}s"

    def register(self, name: str) -> _Registrar[T]:
        """Class decorator: register the class under ``name``."""
        return _Registrar(self, name)

    def add(self, name: str, cls: type[T]) -> None:
        """Register ``cls``; a class that is defined again replaces its predecessor.

        Raises:
            ValueError: another class has that name.
        """
        registered = self._classes.setdefault(name, cls)
        if registered is cls:
            return
        if not _is_same(registered, cls):
            raise ValueError(f"{self.kind} {name!r} is registered twice: {registered} and {cls}")
        if cls.__module__ == registered.__module__:
            self._classes[name] = cls

    def names(self) -> list[str]:
        """All names, without importing anything."""
        return sorted(set(self._origins()) | set(self._classes))

    def get(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            UsageError: nothing has that name (the message names the nearest one), two things have
                it, or its module cannot be imported.
        """
        origins = self._origins().get(name, [])
        if len(origins) > 1:
            raise UsageError(
                f"there are {len(origins)} {self.folder} called {name!r}",
                where=", ".join(origin.place for origin in origins),
                todo="rename one of them",
            )
        if name not in self._classes:
            if not origins:
                raise UsageError(
                    f"there is no {self.kind} called {name!r}",
                    todo=did_you_mean(name, self.names()),
                )
            self._load(name, origins[0])
        return self._classes[name]

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        return ((name, self.get(name)) for name in self.names())

    def _origins(self) -> dict[str, list[Origin]]:
        """Where each name comes from, most often one place."""
        origins: dict[str, list[Origin]] = {}
        found = (self._shipped(), _entry_points(self.group), self._in_project())
        for part in found:
            for name, origin in part.items():
                origins.setdefault(name, []).append(origin)
        return origins

    def _shipped(self) -> Mapping[str, Origin]:
        package = importlib.import_module(self.package)
        return _modules(self.package, tuple(package.__path__))

    def _in_project(self) -> Mapping[str, Origin]:
        project = current_project()
        if project is None or project.package is None:
            return {}
        folder = project.import_folder / project.package / self.folder
        if not folder.is_dir():
            return {}
        _make_importable(project)
        return _modules(f"{project.package}.{self.folder}", (str(folder),))

    def _load(self, name: str, origin: Origin) -> None:
        """Import a class.

        Raises:
            UsageError: it cannot be imported, or registers nothing of that name.
        """
        try:
            loaded = origin.load()
            if isinstance(loaded, type) and name not in self._classes:
                self.add(name, loaded)
        except FlowsheetError:
            raise
        except Exception as error:
            raise UsageError(
                f"the {self.kind} {name!r} cannot be loaded: "
                f"{type(error).__name__}: {first_line(error)}",
                where=_locate(error, origin),
                todo="correct the file, or remove the plug-in",
            ) from error
        if name not in self._classes:
            raise UsageError(
                f"the module registers no {self.kind} called {name!r}",
                where=origin.place,
                todo=f'decorate its class with @{self.kind.upper()}S.register("{name}")',
            )


class _Registrar(Generic[T]):
    def __init__(self, registry: Registry[T], name: str) -> None:
        self._registry, self._name = registry, name

    def __call__(self, cls: type[T]) -> type[T]:
        self._registry.add(self._name, cls)
        return cls


def _is_same(one: type, other: type) -> bool:
    """Whether two classes are the same definition, perhaps imported or executed twice."""
    modules = one.__module__, other.__module__
    is_same_module = modules[0].endswith(modules[1]) or modules[1].endswith(modules[0])
    return one.__qualname__ == other.__qualname__ and is_same_module


@lru_cache(maxsize=32)
def _shipped_names(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(paths))


def _modules(package: str, paths: tuple[str, ...]) -> dict[str, Origin]:
    is_own = package.startswith("flowsheet.")
    names = _shipped_names(paths) if is_own else [m.name for m in pkgutil.iter_modules(paths)]
    origins = {}
    for name in names:
        if not name.startswith("_") and name != "base":
            module = f"{package}.{name}"
            origins[name] = Origin(module, partial(importlib.import_module, module))
    return origins


@lru_cache(maxsize=32)
def _entry_points(group: str) -> dict[str, Origin]:
    return {entry.name: Origin(_describe(entry), entry.load) for entry in entry_points(group=group)}


def _describe(entry: EntryPoint) -> str:
    distribution = entry.dist.name if entry.dist else "an unknown package"
    return f"{entry.value} (entry point of {distribution})"


def _make_importable(project: Project) -> None:
    """Put the project's source folder on the path, of which spawned processes get a copy.

    Raises:
        UsageError: a module of another place has the package's name.
    """
    assert project.package is not None
    folder = str(project.import_folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    loaded = sys.modules.get(project.package)
    expected = project.import_folder / project.package
    if loaded is not None and expected not in map(Path, getattr(loaded, "__path__", [])):
        raise UsageError(
            f"another package is called {project.package!r}",
            where=str(getattr(loaded, "__file__", loaded)),
            todo=f"give the package in {expected} another name",
        )


def _locate(error: Exception, origin: Origin) -> str:
    """The file and line of a plug-in at which its import failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not _is_library(frame.filename)
    ]
    if not frames:
        return origin.place
    return f"{origin.place}: {frames[-1].filename}, line {frames[-1].lineno}"


def _is_library(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parent) or "importlib" in Path(file).parts


def is_plugin(cls: type) -> bool:
    """Whether a class is not one of Flowsheet's own."""
    return cls.__module__.partition(".")[0] != "flowsheet"


def is_defined_in_notebook(cls: type) -> bool:
    """Whether other processes cannot import the class."""
    return cls.__module__ == _NOTEBOOK


def plugin_code(*classes: type) -> dict[str, object]:
    """A part of a stage's key: the code of the plug-ins among the classes; empty without any.

    So that a changed plug-in is not taken for the one whose results are in the store. Flowsheet's
    own classes have a version for that.
    """
    digests = {cls.__qualname__: code_digest(cls) for cls in classes if is_plugin(cls)}
    return {"plugins": digests} if digests else {}


def code_digest(cls: type) -> str:
    """sha256 of the code of the package that defines the class."""
    package = sys.modules[cls.__module__.partition(".")[0]]
    folders = [Path(folder) for folder in getattr(package, "__path__", [])]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    single = getattr(package, "__file__", None)
    if not files and single:
        files = [Path(single)]
    content = hashlib.sha256()
    for file in sorted(files):
        content.update(f"{file.name}\0".encode())
        content.update(file.read_bytes())
    return content.hexdigest()


def describe_code(cls: type) -> dict[str, str] | None:
    """Module, class, distribution and version of a plug-in; None for Flowsheet's own classes."""
    if not is_plugin(cls):
        return None
    package = cls.__module__.partition(".")[0]
    distributions = packages_distributions().get(package, [])
    described = {
        "module": cls.__module__,
        "class": cls.__qualname__,
        "sha256": code_digest(cls),
    }
    if distributions:
        name = distributions[0]
        described |= {"distribution": name, "version": version(name)}
    return described
