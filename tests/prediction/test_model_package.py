from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort.schema import Tables
from flowsheet.errors import CheckFailed
from flowsheet.prediction.model_package import PREDICTIONS, Bundle
from flowsheet.windows.build import build_sequences


def test_a_bundle_says_what_the_model_says_of_the_same_windows(bundles, bundle, tables):
    answer = bundle.predict(tables)
    columns = bundle.columns
    raw = build_sequences(
        tables,
        bundles.TASK,
        bundles.FEATURES,
        columns["variables"],
        columns["drugs"],
        columns["vocabulary"],
    )
    expected = bundle.model.predict_proba(bundle.scaler.transform(raw))
    assert dict(answer.schema) == PREDICTIONS
    np.testing.assert_array_equal(answer["risk"].to_numpy(), expected)
    assert answer["step"].to_list() == raw.step.tolist()
    first = answer.row(0, named=True)
    assert (first["time"] - tables.stays["admitted_at"][0]).total_seconds() == 6 * 3600


def test_a_bundle_opened_again_says_the_same(bundle, tables):
    again = Bundle.load(bundle.folder)
    assert again.predict(tables).equals(bundle.predict(tables))
    assert (again.task, again.features, again.training_key) == (
        bundle.task,
        bundle.features,
        bundle.training_key,
    )


def test_each_stay_is_answered_as_if_it_had_come_alone(bundle, tables):
    together = bundle.predict(tables)
    for stay in tables.stays["stay_id"].to_list()[:5]:
        parts = (tables.stays, tables.events, tables.treatments, tables.episodes)
        alone = bundle.predict(Tables(*(part.filter(pl.col("stay_id") == stay) for part in parts)))
        expected = together.filter(pl.col("stay_id") == stay)
        assert alone.drop("risk").equals(expected.drop("risk"))
        np.testing.assert_allclose(alone["risk"], expected["risk"], rtol=1e-12)


def test_no_stay_is_no_answer(bundle, tables):
    parts = (tables.stays, tables.events, tables.treatments, tables.episodes)
    answer = bundle.predict(Tables(*(part.head(0) for part in parts)))
    assert dict(answer.schema) == PREDICTIONS
    assert answer.is_empty()


@pytest.mark.parametrize(
    ("key", "value"), [("windows_version", -1), ("model_version", -1), ("inputs", ["hr"])]
)
def test_inputs_that_this_release_would_build_otherwise_are_refused(bundle, tmp_path, key, value):
    import shutil

    folder = shutil.copytree(bundle.folder, tmp_path / "bundle")
    about = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(about | {key: value}))
    with pytest.raises(CheckFailed, match="train the model again"):
        Bundle.load(folder)


def test_models_without_scaling_are_bundled_too(bundles, tables, tmp_path):
    bundle = bundles.make(tmp_path, "gradient_boosting", tables, rounds=5)
    assert bundle.scaler is None
    assert not (bundle.folder / "scaler.json").exists()
    assert bundle.predict(tables)["risk"].is_between(0, 1).all()
