"""A stage is built once, and again when its files are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowsheet.errors import FlowsheetError
from flowsheet.lifecycle.experiment import stage
from flowsheet.lifecycle.experiment.stage import Stage, is_complete, run_stage
from flowsheet.state.hashing import digest

KEY = digest("stage")


def build(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "numbers.npy").write_bytes(bytes(100))
    (folder / "summary.json").write_text("{}", encoding="utf-8")


def must_not_build(folder: Path) -> None:
    raise AssertionError("the stage exists already")


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is verified yet; :func:`forget` makes it so again."""
    monkeypatch.setattr(stage, "_verified", {})


def forget() -> None:
    """As in another process, in which no stage is verified yet."""
    stage._verified.clear()


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
        lambda folder: (folder / "inner" / "numbers.npy").write_bytes(bytes(99) + b"x"),
        lambda folder: (folder / "summary.json").unlink(),
        lambda folder: (folder / "stage.json").write_text('{"key": ', encoding="utf-8"),
        lambda folder: (folder / "stage.json").unlink(),
        lambda folder: (folder / "stage.json").write_text('{"key": "another"}', encoding="utf-8"),
    ],
)
def test_a_damaged_stage_is_built_again(
    first: Stage, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(first.folder)
    forget()
    assert not is_complete("windows", KEY)
    assert not run_stage("windows", KEY, build).reused
    assert "is not as it was written" in capsys.readouterr().err
    assert (first.folder / "inner" / "numbers.npy").read_bytes() == bytes(100)
    assert is_complete("windows", KEY)


def test_additional_files_do_not_matter(first: Stage) -> None:
    (first.folder / "note.txt").write_text("a note", encoding="utf-8")
    assert run_stage("windows", KEY, must_not_build).reused


def test_a_changed_file_is_named(first: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    (first.folder / "inner" / "numbers.npy").write_bytes(bytes(99) + b"x")
    forget()
    run_stage("windows", KEY, build)
    assert "inner/numbers.npy; building it again" in capsys.readouterr().err


def test_a_reference_to_a_changed_stage_does_not_open_its_folder(first: Stage) -> None:
    (first.folder / "summary.json").write_text("[]", encoding="utf-8")
    forget()
    with pytest.raises(FlowsheetError, match=r"summary\.json"):
        first.folder  # noqa: B018 - the property verifies


def test_a_process_verifies_a_stage_once(first: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    assert first.folder.is_dir()
    monkeypatch.setattr(stage, "file_digest", must_not_build)
    assert run_stage("windows", KEY, must_not_build).reused


def test_what_killed_builds_left_is_swept_by_the_next_build(first: Stage) -> None:
    left = first.folder.with_name(".0123456789abcdef.0123abcd.part")
    left.mkdir()
    (left / "patients.parquet").write_bytes(b"x")
    run_stage("windows", digest("another stage"), build)
    assert not left.exists()
