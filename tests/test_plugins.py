"""Plug-ins are found by the name of their module."""

from __future__ import annotations

import pytest

from flowsheet.errors import UsageError
from flowsheet.models.base import MODELS
from flowsheet.plugins import Registry


def test_names_are_modules_without_underscore_and_base():
    names = MODELS.names()
    assert "lstm" in names
    assert not {"base", "_training"} & set(names)


def test_a_class_is_imported_when_it_is_looked_up():
    assert MODELS.get("ar1").__name__ == "AR1"


def test_an_unknown_name_is_an_error_that_names_the_nearest():
    with pytest.raises(UsageError, match='did you mean "lstm"'):
        MODELS.get("lstn")


def test_a_name_belongs_to_one_class():
    registry: Registry[object] = Registry("thing", "flowsheet.models")
    registry.add("a", int)
    registry.add("a", int)
    with pytest.raises(ValueError, match="registered twice"):
        registry.add("a", str)
