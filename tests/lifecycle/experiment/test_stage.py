"""A stage is built once, and again when its files are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowsheet.lifecycle.experiment.stage import Stage, is_complete, run_stage
from flowsheet.state.hashing import digest

KEY = digest("stage")


def build(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "numbers.npy").write_bytes(bytes(100))
    (folder / "summary.json").write_text("{}")


def must_not_build(folder: Path) -> None:
    raise AssertionError("the stage exists already")


@pytest.fixture
def first() -> Stage:
    return run_stage("windows", KEY, build)


def test_a_stage_is_built_once(first: Stage) -> None:
    second = run_stage("windows", KEY, must_not_build)
    assert not first.reused
    assert second == first.model_copy(update={"reused": True})
    assert is_complete("windows", KEY)
    assert not is_complete("split", KEY)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "inner" / "numbers.npy").write_bytes(b""),
        lambda folder: (folder / "summary.json").unlink(),
        lambda folder: (folder / "stage.json").write_text('{"key": '),
        lambda folder: (folder / "stage.json").unlink(),
    ],
)
def test_a_damaged_stage_is_built_again(
    first: Stage, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(first.folder)
    assert not is_complete("windows", KEY)
    assert not run_stage("windows", KEY, build).reused
    assert "missing or truncated files" in capsys.readouterr().err
    assert (first.folder / "inner" / "numbers.npy").stat().st_size == 100
    assert is_complete("windows", KEY)


def test_additional_files_do_not_matter(first: Stage) -> None:
    (first.folder / "note.txt").write_text("a note")
    assert run_stage("windows", KEY, must_not_build).reused
