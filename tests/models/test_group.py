"""Several processes train one model as one process would, up to the order of sums."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from flowsheet.errors import MemberLost
from flowsheet.models import gradient_boosting
from flowsheet.models._group import Group
from flowsheet.models.base import MODELS, Context, Model
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.sequences import Sequences
from tests.models.groups import run_group

NETWORK: dict[str, Any] = {"hidden": 6, "epochs": 3, "ensemble_size": 2}


@pytest.fixture(scope="module")
def raw() -> list[Sequences]:
    return [toy_sequences(stays, stays, raw=True) for stays in (1500, 401)]


@pytest.fixture(scope="module")
def scaled() -> list[Sequences]:
    """The last batch of an epoch has fewer stays than three members."""
    return [toy_sequences(stays, stays, raw=False) for stays in (65, 31)]


def fit(kind: str, params: dict[str, Any], parts: list[Sequences], **context: Any) -> Model:
    cls = MODELS.get(kind)
    model = cls(cls.Params(**params))
    model.fit(*parts, Context(**{"seed": 1, **context}))
    return model


def fit_in_group(
    folder: Path,
    size: int,
    kind: str,
    params: dict[str, Any],
    parts: list[Sequences],
    timeout: timedelta = timedelta(minutes=1),
    **of_first: Any,
) -> list[Model]:
    """The model of each member; ``of_first`` is part of the context of the first one alone."""

    def fit_member(group: Group) -> Model:
        context = {} if group.rank else of_first
        return fit(kind, params, parts, group=group, **context)

    folder.mkdir(exist_ok=True)
    return run_group(folder, size, fit_member, timeout)


def save(model: Model, folder: Path) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    model.save(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_sums_and_rows_of_all_members_are_exchanged(tmp_path: Path) -> None:
    def exchange(group: Group) -> tuple[list[float], list[float], bytes]:
        tensors = [torch.full((2, 2), group.rank + 1.0), torch.tensor(float(group.rank))]
        group.sum(tensors)
        positions = np.arange(7)[group.part]
        in_order = group.gather_in_order(positions, positions * 10.0)
        sums = [float(tensor.sum()) for tensor in tensors]
        return sums, in_order.tolist(), group.broadcast(f"from {group.rank}".encode())

    expected = ([24.0, 3.0], [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0], b"from 0")
    assert run_group(tmp_path, 3, exchange) == [expected] * 3


def test_rows_that_no_member_has_are_gathered_as_none(tmp_path: Path) -> None:
    gathered = run_group(tmp_path, 2, lambda group: group.gather(np.empty((0, 3))))
    assert [rows.shape for rows in gathered] == [(0, 3)] * 2


def test_a_member_that_is_gone_or_silent_is_an_error_and_no_hang(tmp_path: Path) -> None:
    def leave(group: Group) -> None:
        if group.rank == 0:
            group.sum([torch.zeros(1)])

    with pytest.raises(MemberLost, match="does not answer any more"):
        run_group(tmp_path, 2, leave, timeout=timedelta(seconds=2))


@pytest.mark.parametrize("params", [{}, {"row_fraction": 0.5, "feature_fraction": 0.5}])
def test_trees_of_a_group_are_nearly_those_of_one_process(
    tmp_path: Path, raw: list[Sequences], params: dict[str, Any]
) -> None:
    params = {"rounds": 30, "patience": 10, **params}
    members = fit_in_group(tmp_path / "group", 3, "gradient_boosting", params, raw)
    again = fit_in_group(tmp_path / "again", 3, "gradient_boosting", params, raw)[0]
    files = [save(model, tmp_path / str(i)) for i, model in enumerate([*members, again])]
    assert files[1:] == files[:-1]
    alone = fit("gradient_boosting", params, raw)
    valid = raw[1]
    aurocs = [
        roc_auc_score(valid.y[valid.scored], model.predict_proba(valid)[valid.scored])
        for model in (alone, members[0])
    ]
    assert aurocs[0] == pytest.approx(aurocs[1], abs=0.005)
    assert aurocs[0] > 0.7


@pytest.mark.parametrize("sample_rows", [1000, gradient_boosting.BIN_SAMPLE_ROWS])
def test_the_first_splits_of_a_group_are_those_of_one_process(
    tmp_path: Path, raw: list[Sequences], sample_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bins are the same, also where they are chosen on a sample.

    Further down a group counts the rows of a leaf from sums of second derivatives, which decides
    otherwise where a leaf has just the rows that it has to have.
    """
    monkeypatch.setattr(gradient_boosting, "BIN_SAMPLE_ROWS", sample_rows)
    params = {"rounds": 1, "feature_fraction": 1.0, "leaves": 8}
    group = fit_in_group(tmp_path, 2, "gradient_boosting", params, raw)[0]
    alone = fit("gradient_boosting", params, raw)
    np.testing.assert_allclose(group.predict_proba(raw[1]), alone.predict_proba(raw[1]), atol=1e-9)


def test_a_value_that_only_few_stays_have_is_learned_from(tmp_path: Path) -> None:
    """No member chooses bins on its own stays, in which a column may have one value."""
    parts = [toy_sequences(stays, stays, raw=True) for stays in (400, 100)]
    columns = [feature.name for feature in parts[0].features]
    column = columns.index("same_for_all")
    marked = []
    for part in parts:
        x = np.array(part.x)
        x[:, column] = np.where(part.row_stay % 2 == 0, part.y, 0)  # 0 in a member's stays
        marked.append(replace(part, x=x))
    params = {"rounds": 3, "changes": (), "counts": (), "feature_fraction": 1.0}
    for model in fit_in_group(tmp_path, 2, "gradient_boosting", params, marked):
        gains = model.tables()["importances"]
        assert gains["feature"][0] == "same_for_all"


def test_columns_with_few_values_are_used_where_bins_are_chosen_on_a_sample(
    tmp_path: Path, raw: list[Sequences], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1 row in 80 the sample has too few for a leaf, and all rows have enough."""
    monkeypatch.setattr(gradient_boosting, "BIN_SAMPLE_ROWS", 500)
    rare = []
    for part in raw:
        x = np.array(part.x)
        x[:, 9] = np.arange(len(x)) % 80 == 0
        rare.append(replace(part, x=x, y=np.where(x[:, 9] == 1, 1, part.y).astype(np.int8)))
    params = {"rounds": 3, "min_leaf": 20, "changes": (), "counts": (), "feature_fraction": 1.0}
    group = fit_in_group(tmp_path, 2, "gradient_boosting", params, rare)[0]
    for model in (group, fit("gradient_boosting", params, rare)):
        importances = model.tables()["importances"]
        assert importances.filter(feature="same_for_all")["splits"].item() > 0
        rows_of_leaves = model.booster.trees_to_dataframe().query("left_child.isnull()")["count"]  # type: ignore[attr-defined]
        assert rows_of_leaves.min() >= 15


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("size", [2, 3])
def test_networks_of_a_group_are_those_of_one_process(
    tmp_path: Path, scaled: list[Sequences], kind: str, size: int
) -> None:
    """Dropout is drawn for the whole batch by every member."""
    alone = fit(kind, NETWORK, scaled)
    members = fit_in_group(tmp_path, size, kind, NETWORK, scaled)
    risks = [model.predict_proba(scaled[1]) for model in members]
    assert len({risk.tobytes() for risk in risks}) == 1
    np.testing.assert_allclose(risks[0], alone.predict_proba(scaled[1]), atol=1e-5)
    curves = [model.tables()["training_curve"].to_numpy() for model in (alone, members[0])]
    np.testing.assert_allclose(*curves, atol=1e-5)
    np.testing.assert_allclose(alone.reference, members[0].reference, rtol=1e-12)  # type: ignore[attr-defined]


def test_a_killed_group_resumes_from_the_checkpoint_of_its_first_member(
    tmp_path: Path, scaled: list[Sequences]
) -> None:
    whole = fit_in_group(tmp_path / "whole", 2, "lstm", NETWORK, scaled)[0]
    checkpoints = tmp_path / "checkpoints"

    def kill(epoch: int, score: float) -> None:
        if epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_in_group(
            tmp_path / "killed",
            2,
            "lstm",
            NETWORK,
            scaled,
            checkpoints=checkpoints,
            report_score=kill,
            timeout=timedelta(seconds=2),
        )
    assert list(checkpoints.iterdir())
    lines: list[str] = []
    resumed = fit_in_group(
        tmp_path / "resumed",
        2,
        "lstm",
        NETWORK,
        scaled,
        checkpoints=checkpoints,
        progress=lines.append,
    )
    assert len(lines) == NETWORK["epochs"] - 1
    for model in resumed:
        assert model.predict_proba(scaled[1]).tobytes() == whole.predict_proba(scaled[1]).tobytes()
    assert list(checkpoints.iterdir()) == []


def test_a_checkpoint_of_one_process_is_not_that_of_a_group(
    tmp_path: Path, scaled: list[Sequences]
) -> None:
    def kill(epoch: int, score: float) -> None:
        if epoch == 2:
            raise InterruptedError

    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(InterruptedError):
        fit("lstm", NETWORK, scaled, checkpoints=checkpoints, report_score=kill)
    lines: list[str] = []
    fit_in_group(
        tmp_path / "group",
        2,
        "lstm",
        NETWORK,
        scaled,
        checkpoints=checkpoints,
        progress=lines.append,
    )
    assert len(lines) == NETWORK["epochs"]
