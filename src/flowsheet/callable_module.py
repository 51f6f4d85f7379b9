"""Packages that are also functions of the API: ``flowsheet.windows`` and ``flowsheet.cohort``."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the API's function of the same name."""
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module("flowsheet.api"), name)(*arguments, **keywords)


def make_callable(module: str) -> None:
    """Let calls of a module call the function of the same name in ``flowsheet.api``.

    A package and a function of the API that share a name would otherwise hide each other, in an
    order that depends on what was imported first.
    """
    sys.modules[module].__class__ = _CallableModule
