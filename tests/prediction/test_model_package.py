from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort.schema import TABLES, Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.manifest import write_manifest
from flowsheet.prediction.model_package import PREDICTIONS, ModelPackage
from flowsheet.windows.build import build_sequences
from tests.model_packages import FEATURES, TASK, fit_model_package


def test_a_model_package_predicts_what_its_model_predicts_from_the_same_windows(
    model_package, tables
):
    predictions = model_package.predict(tables)
    columns = model_package.columns
    sequences = build_sequences(
        tables, TASK, FEATURES, columns["variables"], columns["drugs"], columns["vocabulary"]
    )
    scaled = model_package.scaler.transform(sequences)
    expected = model_package.model.predict_proba(scaled)
    assert dict(predictions.schema) == PREDICTIONS
    np.testing.assert_array_equal(predictions["risk"].to_numpy(), expected)
    assert predictions["step"].to_list() == sequences.step.tolist()
    first_time = predictions.row(0, named=True)["time"]
    assert (first_time - tables.stays["admitted_at"][0]).total_seconds() == 6 * 3600


def test_a_reloaded_model_package_predicts_the_same(model_package, tables):
    reloaded = ModelPackage.load(model_package.folder)
    assert reloaded.predict(tables).equals(model_package.predict(tables))
    assert reloaded.task == model_package.task
    assert reloaded.features == model_package.features
    assert reloaded.training_key == model_package.training_key


def test_each_stay_is_predicted_as_if_it_were_alone(model_package, tables):
    predictions = model_package.predict(tables)
    for stay_id in tables.stays["stay_id"].to_list()[:5]:
        of_stay = pl.col("stay_id") == stay_id
        alone = Tables(*(getattr(tables, name).filter(of_stay) for name in TABLES))
        actual, expected = model_package.predict(alone), predictions.filter(of_stay)
        assert actual.drop("risk").equals(expected.drop("risk"))
        np.testing.assert_allclose(actual["risk"], expected["risk"], rtol=1e-12)


def test_without_stays_there_are_no_predictions(model_package, tables):
    no_rows = Tables(*(getattr(tables, name).head(0) for name in TABLES))
    predictions = model_package.predict(no_rows)
    assert dict(predictions.schema) == PREDICTIONS
    assert predictions.is_empty()


@pytest.mark.parametrize(
    ("key", "value"), [("windows_version", -1), ("model_version", -1), ("inputs", ["hr"])]
)
def test_a_model_whose_inputs_this_release_builds_differently_is_rejected(
    model_package, tmp_path, key, value
):
    folder = shutil.copytree(model_package.folder, tmp_path / "model_package")
    description = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    (folder / "package.json").write_text(json.dumps(description | {key: value}), encoding="utf-8")
    write_manifest(folder)
    with pytest.raises(CheckFailed, match="train the model again"):
        ModelPackage.load(folder)


def test_models_without_scaling_are_packaged_too(tables, tmp_path):
    model_package = fit_model_package(tmp_path, "gradient_boosting", tables, rounds=5)
    assert model_package.scaler is None
    assert not (model_package.folder / "scaler.json").exists()
    assert model_package.predict(tables)["risk"].is_between(0, 1).all()
