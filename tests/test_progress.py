"""Lines of progress: what is printed at which level, and what reaches a display."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowsheet import progress
from flowsheet.progress import ProgressLine

EPOCH = ProgressLine("epoch 3: ...", "epoch", 3, 20, score=0.4)
TRIAL = ProgressLine("trial 1 of 2 complete", "trial", 1, 2, score=0.5)
BEGUN = ProgressLine("", "stage", 0, 1)
LINES = [EPOCH, TRIAL, BEGUN, "warning: 2 events", "done"]


@pytest.mark.parametrize(
    ("level", "printed"),
    [
        ("debug", ["epoch 3: ...", "trial 1 of 2 complete", "warning: 2 events", "done"]),
        (None, ["trial 1 of 2 complete", "warning: 2 events", "done"]),
        ("warning", ["warning: 2 events"]),
        ("error", []),
        ("nonsense", ["trial 1 of 2 complete", "warning: 2 events", "done"]),
    ],
)
def test_a_log_has_one_line_a_trial_and_more_or_less_on_request(
    level: str | None, printed: list[str], capsys, monkeypatch
):
    monkeypatch.delenv(progress.LOG_LEVEL, raising=False)
    if level:
        monkeypatch.setenv(progress.LOG_LEVEL, level)
    for line in LINES:
        progress.report(line, "lstm")
    assert capsys.readouterr().err.splitlines() == [f"[lstm] {line}" for line in printed]


def test_the_level_is_set_for_a_block_only(monkeypatch):
    monkeypatch.setenv(progress.LOG_LEVEL, "warning")
    with progress.set_log_level("debug"):
        assert progress.log_level() == "debug"
    assert progress.log_level() == "warning"


def test_lines_of_a_display_go_to_its_file_and_do_not_mix(tmp_path: Path, capsys):
    file = tmp_path / "progress.jsonl"
    file.touch()
    with progress.redirected(file), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: progress.report(EPOCH, "lstm"), range(200)))
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    expected = {"name": "lstm", "text": "epoch 3: ...", "is_shown": False, "unit": "epoch"}
    assert records == [{**expected, "step": 3, "total": 20, "score": 0.4}] * 200
    assert capsys.readouterr().err == ""


def test_secrets_are_masked(tmp_path: Path, capsys):
    progress.report("no answer from postgresql://ada:lovelace@db/mlflow")
    assert "lovelace" not in capsys.readouterr().err


class _Unwritable(io.StringIO):
    """A stream whose first call fails, as the error says."""

    encoding = "ascii"

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    def write(self, text: str) -> int:
        if self.error:
            error, self.error = self.error, None
            raise error
        return super().write(text)


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "disk full"), ValueError()])
def test_a_line_that_cannot_be_printed_is_lost_without_an_error(error, monkeypatch):
    stream = _Unwritable(error)
    monkeypatch.setattr("sys.stderr", stream)
    progress.report("done", "lstm")


def test_without_a_stream_nothing_is_printed(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    progress.report("done", "lstm")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    progress.report("done", "lstm")


def test_a_character_that_the_encoding_lacks_is_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stderr", stream)
    progress.report("AUROC ≥ 0.8")
    assert stream.buffer.getvalue() == b"AUROC \\u2265 0.8\n"
