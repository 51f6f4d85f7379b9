"""Find implementations by name: one file each, no list to keep."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar

from flowsheet.errors import UsageError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes that the modules of one package register under a name.

    A module is imported when one of its names is first asked for: the module ``models/lstm.py``
    holds the model ``lstm``. Modules that begin with an underscore, and ``base``, hold none.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> _Registrar[T]:
        """Class decorator: register the class under ``name``."""
        return _Registrar(self, name)

    def add(self, name: str, cls: type[T]) -> None:
        """Register ``cls``; a name belongs to one class."""
        held = self._classes.setdefault(name, cls)
        if held.__qualname__ != cls.__qualname__:
            raise ValueError(f"{self.kind} {name!r} is registered twice: {held} and {cls}")

    def names(self) -> list[str]:
        """All names, without importing anything."""
        package = importlib.import_module(self.package)
        found = {m.name for m in pkgutil.iter_modules(package.__path__)}
        return sorted(
            {n for n in found if not n.startswith("_") and n != "base"} | set(self._classes)
        )

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
