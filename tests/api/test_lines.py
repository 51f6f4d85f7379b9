"""The lines of the first page of docs/python.md run as they are written."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import polars as pl
import pytest

import flowsheet as fs

ROOT = Path(__file__).resolve().parents[2]

DEMO = """cohort: simulated_small
task: next_day
features: vitals_only
models: [lstm, ar1]
tuning: none
evaluation: quick
compute: single
override:
  cohort: {options: {stays: 60}}
  evaluation: {resamples: 20}
  models: {lstm: {params: {epochs: 2, hidden: 8}}}
"""

LINES = """
import flowsheet as fs
cfg  = fs.experiment("demo", cohort="simulated_small", seed=2)
ward = fs.cohort(cfg)
ward.stays, ward.events
win  = fs.windows(ward, cfg.task, cfg.features)
win.to_polars()
train, valid, test = win.split(cfg)
m = fs.model("lstm", hidden=64).fit(train, valid)
p = m.predict_proba(test)
ev = fs.evaluate({"lstm": p}, test); ev.leaderboard
ev.plot.roc(); ev.plot.calibration()
run = fs.run(cfg); run.leaderboard
run.predictions
fs.load("demo-lstm@champion").score("ward/")
ward.stay(7).plot(risk=m)
"""


def test_the_documentation_shows_these_lines():
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert shown
    assert ast.dump(ast.parse(shown[1])) == ast.dump(ast.parse(LINES))


@pytest.mark.slow
@pytest.mark.server
def test_the_lines_run(tmp_path, monkeypatch, flowsheet_home):
    """With a smaller demo: an experiment of that name in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWSHEET_HOME", str(flowsheet_home))
    monkeypatch.setenv("FLOWSHEET_CONF", str(tmp_path / "conf"))
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/demo.yaml").write_text(DEMO, encoding="utf-8")
    names: dict[str, object] = {}
    head, tail = LINES.split("fs.load(")
    exec(head, names)
    run, ward = names["run"], names["ward"]
    assert isinstance(run, fs.Run)
    assert isinstance(ward, fs.Extract)
    _check_run(run)
    ward.save("ward")
    _make_champion("demo-lstm")
    exec("risks = fs.load(" + tail, names)
    assert isinstance(names["risks"], pl.DataFrame)
    assert names["risks"].columns == ["stay_id", "time", "step", "risk"]


def _check_run(run: fs.Run) -> None:
    assert all(dtype == pl.Float64 for dtype in run.leaderboard.drop("model").dtypes)
    assert {"stay_id", "step", "y", "p.lstm", "p.ar1"} <= set(run.predictions.columns)
    again = fs.open_run(run.id[:8])
    assert again.leaderboard.equals(run.leaderboard)
    assert again.config.name == "demo"


def _make_champion(name: str) -> None:
    from flowsheet.tracking import model_registry

    model_registry.set_champion(model_registry.get_version(name))
