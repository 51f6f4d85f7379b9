"""The parameters of a training on a worker, and the store that both must share."""

from __future__ import annotations

import json

import pytest

from flows.shared_store import check_shared_store
from flows.windows import build_shard
from flowsheet.compose import choices, compose
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment.folds import FoldSpec
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData
from flowsheet.state.store import Store

MAX_PARAMETER_BYTES = 512 * 1024
"""Prefect's limit."""


def make_stage(kind, root, exists):
    path = root / kind / "0123456789abcdef"
    if exists:
        path.mkdir(parents=True)
    return Stage(kind=kind, key="0" * 64, path=str(path), reused=False, seconds=1.0)


def make_fold(root, exists=True):
    stages = {kind: make_stage(kind, root, exists) for kind in ("extract", "windows", "split")}
    models = f"models=[{','.join(choices('model'))}]"
    return FoldSpec(config=compose("demo", [models]), data=FoldData(**stages))


def stages_of(fold):
    return fold.data.extract, fold.data.windows, fold.data.split


def test_the_parameters_are_small_and_restored_unchanged():
    fold = make_fold(Store.open().root)
    text = json.dumps(fold.model_dump(mode="json"))
    assert len(text) < MAX_PARAMETER_BYTES / 10
    assert FoldSpec.model_validate(json.loads(text)) == fold
    check_shared_store(*stages_of(fold))


def test_a_worker_with_another_store_refuses(tmp_path):
    with pytest.raises(UsageError, match="does not see the extract") as caught:
        check_shared_store(*stages_of(make_fold(tmp_path / "elsewhere")))
    assert "FLOWSHEET_HOME" in caught.value.todo


def test_a_worker_that_lacks_the_data_refuses():
    with pytest.raises(UsageError, match="does not see the extract"):
        check_shared_store(*stages_of(make_fold(Store.open().root, exists=False)))


def test_no_shard_is_built_into_another_store(tmp_path):
    fold = make_fold(tmp_path / "elsewhere")
    config = fold.config
    with pytest.raises(UsageError, match="does not see the extract"):
        build_shard.fn(fold.data.extract, config.task, config.features, [(1, 1)], 1)
    assert not list(Store.open().root.rglob("shard"))
