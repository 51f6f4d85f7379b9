from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOY = Path(__file__).with_name("toy.py")
collect_ignore = ["toy.py"]


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module of the toy model, which is also a script."""
    spec = importlib.util.spec_from_file_location("flowsheet_test_toy", TOY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
