"""The PhysioNet 2019 figures, against the official scorer's."""

import json
import zipfile

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.evaluation.metrics.base import METRICS, ScoredRows
from flowsheet.evaluation.metrics.normalised_utility import RowUtility


def hourly(stay, step, y, p, alarm):
    return ScoredRows(
        y=y.astype(np.int8),
        p=p.astype(np.float64),
        subject=stay,
        stay=stay,
        step=step.astype(np.int64),
        subjects=int(stay.max()) + 1,
        alarm=alarm.astype(bool),
        whole_stays=True,
    )


def stays(*labels):
    """Whole stays from their labels."""
    stay = np.repeat(np.arange(len(labels)), [len(y) for y in labels])
    y = np.concatenate(labels)
    return stay, np.concatenate([np.arange(1, len(each) + 1) for each in labels]), y


def utility(stay, step, y, alarm):
    return METRICS.get("normalised_utility")()(hourly(stay, step, y, alarm, alarm))


@pytest.mark.realdata
def test_equals_the_official_scorer(data_dir):
    folder = data_dir / "physionet2019" / "scorer_check"
    rows = pl.read_parquet(folder / "predictions.parquet")
    expected = json.loads((folder / "expected_scores.json").read_text())
    stay = rows["patient"].rank("dense").to_numpy().astype(np.int64) - 1
    columns = (rows[c].to_numpy() for c in ("hour", "label", "probability", "alarm"))
    scored = hourly(stay, *columns)
    names = {"normalized_utility": "normalised_utility"}
    for key in ("auroc", "auprc", "accuracy", "f_measure", "normalized_utility"):
        assert METRICS.get(names.get(key, key))()(scored) == pytest.approx(expected[key], abs=1e-9)


@pytest.mark.realdata
@pytest.mark.slow
def test_anchors_on_the_whole_of_set_a(data_dir):
    with zipfile.ZipFile(data_dir / "physionet2019" / "training_setA.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".psv"))
        labels = [
            np.array([line[-1:] == b"1" for line in archive.read(n).split()[1:]]) for n in names
        ]
    stay, step, y = stays(*labels)
    assert utility(stay, step, y, np.zeros(len(y))) == 0
    assert utility(stay, step, y, np.ones(len(y))) == pytest.approx(-0.31052, abs=5e-6)


def test_an_example_by_hand():
    worth = RowUtility.from_rows(
        hourly(*stays(np.array([0, 0, 0, 0, 1, 1])), np.zeros(6), np.zeros(6))
    )
    # onset is at row 10; rows 0..5 lie 10..5 hours before it
    assert worth.alarm == pytest.approx([2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 8 / 9])
    assert worth.silent == pytest.approx([0, 0, 0, 0, 0, -2 / 9])


def stay_by_stay(labels, alarms):
    """The definition, one row after the other."""
    total = {"seen": 0.0, "best": 0.0, "silent": 0.0}
    for y, alarm in zip(labels, alarms, strict=True):
        onset = int(np.argmax(y)) + 6 if y.any() else None
        for t in range(len(y)):
            away = None if onset is None else t - onset
            best = away is not None and -12 <= away <= 3
            for kind, rings in (("seen", alarm[t]), ("best", best), ("silent", False)):
                total[kind] += worth(away, rings)
    return (total["seen"] - total["silent"]) / (total["best"] - total["silent"])


def worth(away, rings):
    if away is None:
        return -0.05 if rings else 0.0
    if away > 3:
        return 0.0
    if rings:
        return max((away + 12) / 6, -0.05) if away <= -6 else (3 - away) / 9
    return 0.0 if away <= -6 else -2 * (away + 6) / 9


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    onsets=st.lists(st.integers(0, 60), min_size=5, max_size=5),
    seed=st.integers(0, 2**31),
)
def test_equals_the_definition_row_by_row(lengths, onsets, seed):
    labels = [np.arange(n) >= at for n, at in zip(lengths, onsets, strict=False)]
    labels.append(np.arange(30) >= 12)
    alarms = [np.random.default_rng(seed).random(len(y)) < 0.4 for y in labels]
    stay, step, y = stays(*labels)
    assert utility(stay, step, y, np.concatenate(alarms)) == pytest.approx(
        stay_by_stay(labels, alarms), abs=1e-9
    )
