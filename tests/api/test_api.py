"""``import flowsheet as fs``: from records to frames and risks without the command line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import flowsheet as fs
from flowsheet.cli import main
from flowsheet.config import Censor
from flowsheet.errors import CheckFailed, UsageError


def test_the_names_of_the_api_exist_and_are_documented():
    for name in fs._API:
        assert getattr(fs, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing"):
        _ = fs.nothing


def test_importing_flowsheet_imports_nothing_slow():
    code = "import flowsheet, sys; assert not {'polars', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("first", ["flowsheet.windows.grid", "flowsheet.api"])
def test_packages_with_a_function_s_name_are_both(first):
    code = (
        f"import {first}, flowsheet as fs; assert callable(fs.windows) and callable(fs.cohort); "
        "import flowsheet.windows.grid; assert callable(fs.windows); flowsheet.windows.grid.Grid"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_extract_has_lazy_tables(ward):
    assert isinstance(ward.events, pl.LazyFrame)
    assert ward.stays.collect().height == 60 == ward.manifest.counts["stays"]
    assert ward.stay(7).events["stay_id"].unique().to_list() == [7]
    assert "60" in ward._repr_html_()
    with pytest.raises(UsageError, match="no stay 999"):
        ward.stay(999)


def test_an_extract_is_saved_and_opened_again(ward, tmp_path):
    saved = ward.save(tmp_path / "ward")
    assert saved.fingerprint == ward.fingerprint == fs.Extract(tmp_path / "ward").fingerprint
    with pytest.raises(UsageError, match="exists"):
        ward.save(tmp_path / "ward")
    with pytest.raises(CheckFailed):
        fs.Extract(tmp_path / "nowhere")


def test_windows_are_a_frame_with_times_and_inputs(ward, parts):
    windows = fs.windows(ward, "next_day", "vitals_only")
    frame = windows.to_polars()
    assert frame.height == windows.sequences.rows
    assert frame.columns[:4] == ["stay_id", "subject_id", "step", "time"]
    assert set(windows.feature_names) < set(frame.columns)
    assert frame["time"].null_count() == 0
    first = frame.filter(stay_id=1, step=1).row(0, named=True)
    admitted = ward.stay(1).tables.stays["admitted_at"][0]
    assert (first["time"] - admitted).total_seconds() == 24 * 3600
    rows = pl.concat([part.to_polars() for part in parts]).sort("stay_id", "step")
    assert rows.equals(frame.sort("stay_id", "step"))


def test_parts_share_no_subject_and_the_seed_fixes_them(ward, parts):
    subjects = [set(part.to_polars()["subject_id"]) for part in parts]
    assert not subjects[0] & subjects[1] | subjects[0] & subjects[2] | subjects[1] & subjects[2]
    again = fs.windows(ward, "next_day", "vitals_only").split(seed=2)
    assert again.test.to_polars().equals(parts.test.to_polars())


def test_a_protocol_with_folds_is_refused(ward):
    with pytest.raises(UsageError, match="5 folds"):
        fs.split(fs.windows(ward), "cross_validation")


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: fs.model("lstmm"), 'did you mean "lstm"'),
        (lambda: fs.model("lstm", hiden=3), 'did you mean "hidden"'),
        (lambda: fs.experiment("dmo"), 'did you mean "demo"'),
        (lambda: fs.experiment("demo", cohort="simulatd"), 'did you mean "simulated"'),
        (lambda: fs.ingest("simulated_small", stay=3), 'did you mean "stays"'),
        (lambda: fs.model("ar1").predict("x"), "not fitted"),
        (lambda: fs.run(fs.experiment("demo"), seed=2), "takes no overrides"),
    ],
)
def test_a_mistake_is_an_error_with_a_hint(call, hint):
    with pytest.raises(UsageError) as error:
        call()
    assert hint in str(error.value)


def test_a_fitted_model_predicts_windows_and_records_alike(ward, parts, fitted, tmp_path):
    p = fitted.predict_proba(parts.test)
    assert p.shape == (parts.test.sequences.rows,)
    risks = fitted.predict(ward)
    rows = parts.test.to_polars().select("stay_id", "step").with_columns(p=pl.Series(p))
    both = rows.join(risks, on=["stay_id", "step"])
    assert both.height == rows.height
    np.testing.assert_allclose(both["p"], both["risk"], atol=1e-6)
    loaded = fitted.save(tmp_path / "model")
    assert loaded.predict(ward).equals(risks)
    assert fs.load(tmp_path / "model").score(ward.path).equals(risks)
    assert "logistic_regression" in fitted._repr_html_() + loaded._repr_html_()
    with pytest.raises(CheckFailed, match="an extract or a stay"):
        fitted.predict(parts.test)


def test_an_evaluation_has_frames_of_numbers(parts, fitted):
    evaluation = fs.evaluate(
        {"logistic": fitted, "half": np.full(parts.test.sequences.rows, 0.5)},
        parts.test,
        valid=parts.valid,
        resamples=20,
    )
    board = evaluation.leaderboard
    assert board["model"].to_list() == evaluation.models
    assert all(dtype == pl.Float64 for dtype in board.drop("model").dtypes)
    assert "auroc_low" in board.columns
    assert {"sensitivity_at_alert_rate_5", "f_measure"} <= set(evaluation.metrics["metric"])
    assert evaluation.pairs.height
    assert "logistic" in evaluation._repr_html_()
    with pytest.raises(AttributeError, match="roc"):
        _ = evaluation.plot.rocc


def test_weighted_rows_are_evaluated_only_after_a_split(ward, parts, fitted):
    task = parts.test.task.model_copy(update={"censor": Censor.competing})
    windows = fs.windows(ward, task, parts.test.features)
    with pytest.raises(UsageError, match="weights"):
        fs.evaluate({"m": np.full(windows.sequences.rows, 0.5)}, windows, resamples=0)
    test = windows.split(seed=2).test
    assert test.sequences.weight is not None


def test_figures_are_charts(ward, parts, fitted):
    evaluation = fs.evaluate({"logistic": fitted}, parts.test, resamples=20)
    for name in dir(evaluation.plot):
        assert getattr(evaluation.plot, name)().to_dict(), name
    assert ward.stay(7).plot(risk=fitted).to_dict()
    assert fs.plot.stay(ward.stay(7), variables=("hr",)).to_dict()
    with pytest.raises(UsageError, match="no curve"):
        evaluation.plot.roc(subset="everybody")


def test_the_schemas_say_the_same_as_validate(ward, capsys, tmp_path):
    tables = {name: getattr(ward, name).collect() for name in ("stays", "events")}
    assert fs.schemas.Events.validate(tables["events"]).equals(tables["events"])
    assert fs.schemas.Stays.validate(ward.stays).equals(tables["stays"])
    assert fs.schemas.find_failures(**tables).is_empty()
    events = tables["events"].with_columns(
        value=pl.when(pl.int_range(pl.len()) == 3).then(-5.0).otherwise("value")
    )
    failures = fs.schemas.find_failures(tables["stays"], events)
    for name, frame in (("stays", tables["stays"]), ("events", events)):
        frame.write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(SystemExit):
        main(["validate", str(tmp_path)])
    assert failures["rule"].to_list() == ["plausible_range"]
    assert "plausible_range" in capsys.readouterr().out
    with pytest.raises(Exception, match="plausible_range"):
        fs.schemas.Events.validate(events)


def test_a_model_of_a_notebook_cannot_train_in_other_processes(monkeypatch):
    from flowsheet.models.ar1 import AR1

    monkeypatch.setattr(AR1, "__module__", "__main__")
    config = fs.experiment("demo", models=["ar1"])
    with pytest.raises(UsageError, match="cannot import"):
        fs.run(config)


def test_subgroups_come_along(parts, fitted):
    evaluation = fs.evaluate({"m": fitted}, replace(parts.test), resamples=0, minimum_events=1)
    assert any(":" in subset for subset in evaluation.metrics["subset"])
