"""Find implementations by the names of their modules, without a central list."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar

from flowsheet.errors import UsageError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes that the modules of one package register under a name.

    A module is imported when its name is first looked up: the module ``models/lstm.py`` contains
    the model ``lstm``. Modules that begin with an underscore, and ``base``, contain none.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> _Registrar[T]:
        """Class decorator: register the class under ``name``."""
        return _Registrar(self, name)

    def add(self, name: str, cls: type[T]) -> None:
        """Register ``cls``.

        Raises:
            ValueError: another class has that name.
        """
        registered = self._classes.setdefault(name, cls)
        if registered.__qualname__ != cls.__qualname__:
            raise ValueError(f"{self.kind} {name!r} is registered twice: {registered} and {cls}")

    def names(self) -> list[str]:
        """All names, without importing anything."""
        package = importlib.import_module(self.package)
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        public = {name for name in modules if not name.startswith("_") and name != "base"}
        return sorted(public | set(self._classes))

    def get(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            UsageError: nothing has that name; the message names the nearest one.
        """
        if name not in self._classes:
            if name not in self.names():
                raise UsageError(
                    f"there is no {self.kind} called {name!r}",
                    todo=did_you_mean(name, self.names()),
                )
            importlib.import_module(f"{self.package}.{name}")
        return self._classes[name]

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        return ((name, self.get(name)) for name in self.names())


class _Registrar(Generic[T]):
    def __init__(self, registry: Registry[T], name: str) -> None:
        self._registry, self._name = registry, name

    def __call__(self, cls: type[T]) -> type[T]:
        self._registry.add(self._name, cls)
        return cls
