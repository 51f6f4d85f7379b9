"""Every number of a report follows from its tables and the predictions: worked out a second time here."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn import metrics as sk

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.bootstrap import MARGIN, holm_adjust, resample_weights
from flowsheet.evaluation.evidence import Evidence, evaluate
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.summaries import headline

CONFIG = EvaluationConfig(name="small", resamples=60, minimum_events=5)
RINGS = 0.3
PEERS = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "brier": sk.brier_score_loss,
}


@pytest.fixture(scope="module")
def evidence(ward, predictions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    sex = pl.DataFrame(
        {"stay_id": ward[0].stay_id, "sex": [("F", "M")[s % 2] for s in range(len(ward[0]))]}
    )
    rings = dict.fromkeys(predictions, RINGS)
    made = evaluate(
        ward[0],
        predictions,
        CONFIG,
        seed=3,
        task=TaskConfig(name="daily"),
        thresholds=rings,
        subgroups=sex,
    )
    made.save(folder)
    return Evidence.load(folder)


def subsets_of(sequences):
    transitions = sequences.scored & ~sequences.in_state
    parity = np.arange(len(sequences))[sequences.row_stay] % 2
    chosen = {"all": sequences.scored, "new_onsets": transitions}
    return chosen | {f"sex: {s}": sequences.scored & (parity == i) for i, s in enumerate("FM")}


def test_figures(ward, predictions, evidence):
    sequences = ward[0]
    for subset, rows in subsets_of(sequences).items():
        for model, p in predictions.items():
            board = evidence.leaderboard.filter(subset=subset, model=model)
            assert board["rows"].unique().to_list() == [rows.sum()]
            for name, peer in PEERS.items():
                found = board.filter(metric=name)["value"].item()
                assert found == pytest.approx(peer(sequences.y[rows], p[rows]), abs=1e-12)


@pytest.mark.parametrize("name", PEERS)
def test_intervals_and_differences(ward, predictions, evidence, name):
    sequences, rows = ward[0], ward[0].scored
    subjects, number = np.unique(sequences.subject_id, return_inverse=True)
    drawn = np.concatenate(list(resample_weights(len(subjects), CONFIG.resamples, 3, 1)), axis=1)
    weights = drawn[number[sequences.row_stay[rows]]]
    draws = {
        model: np.array(
            [PEERS[name](sequences.y[rows], p[rows], sample_weight=w) for w in weights.T]
        )
        for model, p in predictions.items()
    }
    board = evidence.leaderboard.filter(subset="all", metric=name)
    for row in board.iter_rows(named=True):
        assert (row["low"], row["high"]) == pytest.approx(
            np.quantile(draws[row["model"]], [0.025, 0.975])
        )
    value, seen = dict(board.select("model", "value").iter_rows()), board["subjects"][0]
    pairs = evidence.pairs.filter(subset="all", metric=name)
    for row in pairs.iter_rows(named=True):
        a, b = row["model_a"], row["model_b"]
        error = MARGIN * np.std(draws[a] - draws[b], ddof=1) * np.sqrt(seen / (seen - 1))
        apart, reach = value[a] - value[b], stats.t.ppf(0.975, seen - 1) * error
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(
            (apart, apart - reach, apart + reach)
        )
        assert row["p"] == pytest.approx(2 * stats.t.sf(abs(apart) / error, seen - 1), rel=1e-6)
    assert pairs["p_holm"].to_list() == pytest.approx(holm_adjust(pairs["p"].to_list()))


def test_sentences(evidence):
    for row in evidence.pairs.iter_rows(named=True):
        assert row["verdict"] in {"better", "worse", "not distinguishable", "not estimable"}
        assert (row["verdict"] in {"better", "worse"}) == (row["p_holm"] < 0.05)
        if row["verdict"] == "better":
            assert (row["difference"] > 0) == METRICS.get(row["metric"]).larger_is_better
        assert row["verdict"] in row["summary"] or row["verdict"] == "not estimable"
    assert evidence.headline == headline(
        evidence.leaderboard, evidence.pairs, METRICS.get("auroc")()
    )


def test_curves(ward, predictions, evidence):
    board = evidence.leaderboard.filter(subset="all")
    for model, p in predictions.items():
        mine = evidence.curves.filter(subset="all", model=model)
        decision = mine.filter(curve="decision")
        for percent in (5, 20):
            benefit = decision.filter(pl.col("x") == percent / 100)["y"].item()
            expected = board.filter(model=model, metric=f"net_benefit_at_{percent}")["value"].item()
            assert benefit == pytest.approx(expected, abs=1e-12)
        bins = mine.filter(curve="calibration")
        scored = ward[0].scored
        assert (bins["x"] * bins["rows"]).sum() == pytest.approx(p[scored].sum())
        assert (bins["y"] * bins["rows"]).sum() == pytest.approx(ward[0].y[scored].sum())
        roc = mine.filter(curve="roc")
        area = board.filter(model=model, metric="auroc")["value"].item()
        assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(area, abs=0.003)


def test_lead_times(evidence):
    board = evidence.leaderboard.filter(subset="stays")
    for (model,), told in evidence.lead_times.group_by("model"):
        hours = np.repeat(told["hours"].to_numpy(), told["episodes"].to_numpy())
        assert len(hours) == board["events"][0]
        found = dict(board.filter(model=model).select("metric", "value").iter_rows())
        assert found["lead_time"] == np.nanmedian(hours)
        assert found["episodes_detected"] == pytest.approx(np.isfinite(hours).mean())


def test_names_are_free_text(ward, predictions):
    names = {"lstm (run a)": "sharp", "lstm: run b | <i>": "twin"}
    found = evaluate(ward[0], {name: predictions[m] for name, m in names.items()}, CONFIG, seed=1)
    assert set(found.models) == set(names)
    assert found.metrics("lstm: run b | <i>")["test.auroc"] > 0.5
    plain = evaluate(ward[0], {m: predictions[m] for m in names.values()}, CONFIG, seed=1)
    assert found.leaderboard["value"].to_list() == plain.leaderboard["value"].to_list()


def test_the_order_of_stays_changes_nothing(ward, predictions):
    sequences = ward[0]
    again = evaluate(sequences, predictions, CONFIG, seed=3)
    order = np.arange(len(sequences))[::-1]
    rows = np.concatenate(
        [np.arange(sequences.offsets[s], sequences.offsets[s + 1]) for s in order]
    )
    turned = evaluate(
        sequences.take(order), {m: p[rows] for m, p in predictions.items()}, CONFIG, seed=3
    )
    assert np.allclose(
        turned.leaderboard["value"], again.leaderboard["value"], rtol=1e-12, equal_nan=True
    )
    assert turned.pairs["verdict"].equals(again.pairs["verdict"])
