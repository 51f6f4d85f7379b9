from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort.schema import Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.model_package import PREDICTIONS, ModelPackage
from flowsheet.windows.build import build_sequences
from tests.model_packages import FEATURES, TASK, fit_model_package


def test_a_model_package_predicts_what_its_model_predicts_from_the_same_windows(
    model_package, tables
):
    answer = model_package.predict(tables)
    columns = model_package.columns
    raw = build_sequences(
        tables,
        TASK,
        FEATURES,
        columns["variables"],
        columns["drugs"],
        columns["vocabulary"],
    )
    expected = model_package.model.predict_proba(model_package.scaler.transform(raw))
    assert dict(answer.schema) == PREDICTIONS
    np.testing.assert_array_equal(answer["risk"].to_numpy(), expected)
    assert answer["step"].to_list() == raw.step.tolist()
    first = answer.row(0, named=True)
    assert (first["time"] - tables.stays["admitted_at"][0]).total_seconds() == 6 * 3600


def test_a_reloaded_model_package_predicts_the_same(model_package, tables):
    again = ModelPackage.load(model_package.folder)
    assert again.predict(tables).equals(model_package.predict(tables))
    assert (again.task, again.features, again.training_key) == (
        model_package.task,
        model_package.features,
        model_package.training_key,
    )


def test_each_stay_is_answered_as_if_it_had_come_alone(model_package, tables):
    together = model_package.predict(tables)
    for stay in tables.stays["stay_id"].to_list()[:5]:
        parts = (tables.stays, tables.events, tables.treatments, tables.episodes)
        alone = model_package.predict(
            Tables(*(part.filter(pl.col("stay_id") == stay) for part in parts))
        )
        expected = together.filter(pl.col("stay_id") == stay)
        assert alone.drop("risk").equals(expected.drop("risk"))
        np.testing.assert_allclose(alone["risk"], expected["risk"], rtol=1e-12)


def test_no_stay_is_no_answer(model_package, tables):
    parts = (tables.stays, tables.events, tables.treatments, tables.episodes)
    answer = model_package.predict(Tables(*(part.head(0) for part in parts)))
    assert dict(answer.schema) == PREDICTIONS
    assert answer.is_empty()


@pytest.mark.parametrize(
    ("key", "value"), [("windows_version", -1), ("model_version", -1), ("inputs", ["hr"])]
)
def test_inputs_that_this_release_would_build_otherwise_are_refused(
    model_package, tmp_path, key, value
):
    import shutil

    folder = shutil.copytree(model_package.folder, tmp_path / "model_package")
    about = json.loads((folder / "package.json").read_text())
    (folder / "package.json").write_text(json.dumps(about | {key: value}))
    with pytest.raises(CheckFailed, match="train the model again"):
        ModelPackage.load(folder)


def test_models_without_scaling_are_packaged_too(tables, tmp_path):
    model_package = fit_model_package(tmp_path, "gradient_boosting", tables, rounds=5)
    assert model_package.scaler is None
    assert not (model_package.folder / "scaler.json").exists()
    assert model_package.predict(tables)["risk"].is_between(0, 1).all()
