"""The small folder of MIMIC-III's tables, written once, and the batches of the source."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowsheet.cohort.sources.mimic3 import Mimic3Options
from tests.cohort.mimic3_folder import SourceResult, raw_tables, read_folder, write_tables


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small folder; only to be read."""
    return write_tables(tmp_path_factory.mktemp("mimic3") / "tables", raw_tables())


@pytest.fixture
def folder(shared_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small folder, of which a test may change a file."""
    return Path(shutil.copytree(shared_folder, tmp_path / "tables"))


@pytest.fixture(scope="session")
def read_shared(
    shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., SourceResult]:
    """Read the small folder with some options; each choice of options is read once."""
    results: dict[str, SourceResult] = {}
    home = tmp_path_factory.mktemp("home")

    def read(**options: Any) -> SourceResult:
        key = Mimic3Options(**options).model_dump_json()
        if key not in results:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FLOWSHEET_HOME", str(home))
                results[key] = read_folder(shared_folder, **options)
        return results[key]

    return read


@pytest.fixture(scope="session")
def result(read_shared: Callable[..., SourceResult]) -> SourceResult:
    """The small folder, read with the default options."""
    return read_shared()
