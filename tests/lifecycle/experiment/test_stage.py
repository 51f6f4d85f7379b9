"""A stage is made once, and again when its contents are gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowsheet.lifecycle.experiment.stage import Stage, is_complete, run_stage
from flowsheet.state.hashing import digest

KEY = digest("stage")


def made(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "numbers.npy").write_bytes(bytes(100))
    (folder / "said.json").write_text("{}")


def nothing(folder: Path) -> None:
    raise AssertionError("it is there already")


@pytest.fixture
def first() -> Stage:
    return run_stage("windows", KEY, made)


def test_a_stage_is_made_once(first: Stage) -> None:
    again = run_stage("windows", KEY, nothing)
    assert (first.reused, again.reused) == (False, True)
    assert again == first.model_copy(update={"reused": True})
    assert is_complete("windows", KEY)
    assert not is_complete("split", KEY)


@pytest.mark.parametrize(
    "lose",
    [
        lambda folder: (folder / "inner" / "numbers.npy").write_bytes(b""),
        lambda folder: (folder / "said.json").unlink(),
        lambda folder: (folder / "stage.json").write_text('{"key": '),
        lambda folder: (folder / "stage.json").unlink(),
    ],
)
def test_one_that_lost_its_contents_is_made_again(
    first: Stage, lose: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    lose(first.folder)
    assert not is_complete("windows", KEY)
    assert not run_stage("windows", KEY, made).reused
    assert "has lost some of its contents" in capsys.readouterr().err
    assert (first.folder / "inner" / "numbers.npy").stat().st_size == 100
    assert is_complete("windows", KEY)


def test_what_is_added_to_a_stage_does_not_matter(first: Stage) -> None:
    (first.folder / "note.txt").write_text("mine")
    assert run_stage("windows", KEY, nothing).reused
