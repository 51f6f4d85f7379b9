"""The PhysioNet 2019 utility equals the official scorer and its definition row by row."""

import json
import zipfile

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.evaluation.metrics import ScoredRows, get_metric
from flowsheet.evaluation.metrics.normalised_utility import RowUtility


def hourly_rows(stay, step, y, p, is_alert):
    return ScoredRows(
        y=y.astype(np.int8),
        p=p.astype(np.float64),
        subject=stay,
        stay=stay,
        step=step.astype(np.int64),
        n_subjects=int(stay.max()) + 1,
        is_alert=is_alert.astype(bool),
        has_whole_stays=True,
    )


def whole_stays(*labels):
    """(stay, step, y) of whole stays from the labels of each."""
    stay = np.repeat(np.arange(len(labels)), [len(y) for y in labels])
    step = np.concatenate([np.arange(1, len(y) + 1) for y in labels])
    return stay, step, np.concatenate(labels)


def compute_utility(stay, step, y, is_alert):
    return get_metric("normalised_utility")(hourly_rows(stay, step, y, is_alert, is_alert))


@pytest.mark.realdata
def test_metrics_equal_the_official_scorer(data_dir):
    folder = data_dir / "physionet2019" / "scorer_check"
    rows = pl.read_parquet(folder / "predictions.parquet")
    expected = json.loads((folder / "expected_scores.json").read_text(encoding="utf-8"))
    stay = rows["patient"].rank("dense").to_numpy().astype(np.int64) - 1
    columns = [rows[c].to_numpy() for c in ("hour", "label", "probability", "alarm")]
    scored = hourly_rows(stay, *columns)
    scorer_keys = {
        **{name: name for name in ("auroc", "auprc", "accuracy", "f_measure")},
        "normalised_utility": "normalized_utility",
    }
    for name, key in scorer_keys.items():
        assert get_metric(name)(scored) == pytest.approx(expected[key], abs=1e-9)


@pytest.mark.realdata
@pytest.mark.slow
def test_no_alerts_and_all_alerts_on_the_whole_of_set_a(data_dir):
    with zipfile.ZipFile(data_dir / "physionet2019" / "training_setA.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".psv"))
        labels = [
            np.array([line[-1:] == b"1" for line in archive.read(name).split()[1:]])
            for name in names
        ]
    stay, step, y = whole_stays(*labels)
    assert compute_utility(stay, step, y, np.zeros(len(y))) == 0
    assert compute_utility(stay, step, y, np.ones(len(y))) == pytest.approx(-0.31052, abs=5e-6)


def test_an_example_computed_by_hand():
    stays = whole_stays(np.array([0, 0, 0, 0, 1, 1]))
    utility = RowUtility.from_rows(hourly_rows(*stays, np.zeros(6), np.zeros(6)))
    # onset is at row 10; rows 0..5 lie 10..5 hours before it
    assert utility.alert == pytest.approx([2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 8 / 9])
    assert utility.silent == pytest.approx([0, 0, 0, 0, 0, -2 / 9])


def utility_by_definition(labels, alerts):
    """The normalised utility, one row after the other."""
    totals = {"observed": 0.0, "best": 0.0, "silent": 0.0}
    for y, is_alert in zip(labels, alerts, strict=True):
        onset = int(np.argmax(y)) + 6 if y.any() else None
        for t in range(len(y)):
            hours = None if onset is None else t - onset
            is_best = hours is not None and -12 <= hours <= 3
            totals["observed"] += row_utility(hours, is_alert[t])
            totals["best"] += row_utility(hours, is_best)
            totals["silent"] += row_utility(hours, False)
    return (totals["observed"] - totals["silent"]) / (totals["best"] - totals["silent"])


def row_utility(hours, is_alert):
    """The utility of one row, ``hours`` after the onset; None: without an onset."""
    if hours is None:
        return -0.05 if is_alert else 0.0
    if hours > 3:
        return 0.0
    if is_alert:
        return max((hours + 12) / 6, -0.05) if hours <= -6 else (3 - hours) / 9
    return 0.0 if hours <= -6 else -2 * (hours + 6) / 9


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    onsets=st.lists(st.integers(0, 60), min_size=5, max_size=5),
    seed=st.integers(0, 2**31),
)
def test_utility_equals_its_definition_row_by_row(lengths, onsets, seed):
    labels = [np.arange(n) >= onset for n, onset in zip(lengths, onsets, strict=False)]
    labels.append(np.arange(30) >= 12)
    alerts = [np.random.default_rng(seed).random(len(y)) < 0.4 for y in labels]
    stay, step, y = whole_stays(*labels)
    utility = compute_utility(stay, step, y, np.concatenate(alerts))
    assert utility == pytest.approx(utility_by_definition(labels, alerts), abs=1e-9)
