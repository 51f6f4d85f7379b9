"""The display of a run on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flowsheet.cli.console import _table_width, print_leaderboard
from flowsheet.cli.progress_display import ProgressState, render
from flowsheet.evaluation.leaderboard import LeaderboardTable


def record(name: str, unit: str, step: int, total: int, score: float | None = None):
    return {"name": name, "unit": unit, "step": step, "total": total, "score": score}


def show(state: ProgressState, now: float) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(render(state, now))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_stages_models_trials_and_epochs_are_shown():
    state = ProgressState("experiment demo")
    state.update(record("ingest", "stage", 0, 1), now=0)
    assert "experiment demo: ingest" in show(state, 1)
    state.update(record("train", "models", 0, 4), now=10)
    for name in ("lstm", "gru"):
        state.update(record(name, "stage", 0, 1), now=10)
        state.update(record(name, "trial", 0, 2), now=10)
    state.update(record("lstm", "trial", 1, 2, 0.41), now=20)
    for epoch, score in enumerate([0.30, 0.43, 0.42], 1):
        state.update(record("lstm", "epoch", epoch, 6, score), now=20)
    printed = show(state, 25)
    assert "training, model 2 of 4" in printed
    assert "trial 2 of 2  epoch 3 of 6" in printed
    assert "best so far 0.4300" in printed
    # 0.75 of 4 trainings took 15 s
    assert state.seconds_left(25) == pytest.approx(15 * (4 - 0.75) / 0.75)
    for name in ("lstm", "gru", "ar", "arx"):
        state.update(record(name, "stage", 0, 1), now=30)
        state.update(record(name, "stage", 1, 1), now=30)
    state.update(record("evaluate", "stage", 0, 1), now=40)
    assert "experiment demo: evaluate" in show(state, 41)
    assert "lstm" not in show(state, 41)


def test_models_of_the_store_do_not_count_as_trained():
    state = ProgressState("experiment demo")
    state.update(record("train", "models", 0, 1), now=0)
    state.update(record("ar", "stage", 1, 1), now=0)
    assert state.n_finished == 0


COLUMNS = ["model", "AUROC", "AUPRC", "Brier score", "Log loss", "Calibration slope", "Lead time"]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_leaderboard_fits_the_terminal_and_breaks_no_word(width: int, capsys, monkeypatch):
    cell = "0.833 [0.769, 0.889]"
    models = ["gradient_boosting", "logistic_regression"]
    rows = [[model, *[cell] * (len(COLUMNS) - 1)] for model in models]
    board = LeaderboardTable(title="All rows", columns=COLUMNS, rows=rows)
    monkeypatch.setattr(
        "flowsheet.cli.console.console", lambda: Console(width=width, color_system=None)
    )
    print_leaderboard("demo", board)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert printed.count("0.833") == 2 * _count_shown(printed)
    for model in models:
        assert f" {model} " in printed
    assert printed.count(cell) == (2 if width < 160 else 2 * 6)
    if width == 80:
        assert "in the report: " in printed
    if width == 200:
        assert _table_width(COLUMNS, rows) <= width


def _count_shown(printed: str) -> int:
    omitted = printed.partition("in the report: ")[2].split(", ") if "report" in printed else []
    return len(COLUMNS) - 1 - len(omitted)
