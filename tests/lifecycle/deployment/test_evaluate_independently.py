"""``flowsheet evaluate`` on another hospital: labels and figures computed anew, from raw tables.

Only the risks are the model's. Nothing of the project labels, counts or scores them here.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score, roc_auc_score

from flowsheet.cli import cli
from flowsheet.config import CohortConfig, ModelConfig, TaskConfig
from flowsheet.evaluation.evidence import Evidence
from flowsheet.lifecycle.deployment.external_evaluation import evaluate_elsewhere
from flowsheet.lifecycle.experiment import prepare
from tests.lifecycle.deployment.growing_ward import configure, run
from tests.model_packages import contract_table

HOUR = timedelta(hours=1)
HORIZON = 6


def write_hospital(folder, seed: int, stays: int, rise: float, first_stay: int):
    """Stays of 20 to 50 hours; the heart rate rises before an onset, if there is one."""
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict[str, object]]] = {"stays": [], "events": [], "episodes": []}
    for stay in range(first_stay, first_stay + stays):
        admitted = datetime(2030, 1, 1) + stay * HOUR + timedelta(minutes=int(rng.integers(60)))
        hours = int(rng.integers(20, 50))
        left = admitted + hours * HOUR + timedelta(minutes=int(rng.integers(60)))
        onset = int(rng.integers(8, hours)) if rng.random() < 0.45 else None
        tables["stays"].append(
            {
                "stay_id": stay,
                "subject_id": 10 * stay + seed,
                "admitted_at": admitted,
                "discharged_at": left,
                "age": 50.0 + stay % 30,
                "sex": "FM"[stay % 2],
            }
        )
        for hour in range(1, hours + 1):
            near = 0.0 if onset is None else max(0.0, 1 - abs(onset - hour) / 9)
            at = admitted + hour * HOUR - timedelta(minutes=10)
            value = float(np.round(80 + 25 * rise * near + 8 * rng.normal(), 1))
            event = {"stay_id": stay, "time": at, "known_at": at, "variable": "hr"}
            tables["events"].append({**event, "value": value})
        if onset is not None:
            begin = admitted + onset * HOUR + timedelta(minutes=20)
            times = {"onset": begin, "end": left, "known_at": begin}
            tables["episodes"].append({"stay_id": stay, "response": "sepsis", **times})
    folder.mkdir()
    for name, rows in tables.items():
        columns = {column: [row[column] for row in rows] for column in rows[0]}
        contract_table(name, columns).write_parquet(folder / f"{name}.parquet")
    return folder


def ingest(folder):
    cohort = CohortConfig(name="extract", source="extract", path=str(folder))
    return prepare.open_extract(prepare.ingest_cohort(cohort, print)).path


@pytest.fixture(scope="module")
def evaluated(registry_home, tmp_path_factory):
    """The raw tables of another hospital, the evidence, and the risks by `flowsheet score`."""
    folder = tmp_path_factory.mktemp("hospitals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(registry_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        home = write_hospital(folder / "home", seed=1, stays=150, rise=1.0, first_stay=100)
        task = TaskConfig(
            name="hourly", step_hours=1, horizon=HORIZON, target="state", censor="keep"
        )
        models = {"logistic": ModelConfig(kind="logistic_regression")}
        run(configure("hourly_ward", home, task=task, models=models))
        other = write_hospital(folder / "other", seed=2, stays=90, rise=0.6, first_stay=700)
        extract = ingest(other)
        result = evaluate_elsewhere(["hourly_ward-logistic/1"], extract, print)
        scores = folder / "scores.parquet"
        arguments = ["score", "hourly_ward-logistic/1", str(extract), "--out", str(scores)]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
    return other, result.evidence, pl.read_parquet(scores)


@pytest.fixture(scope="module")
def rows(evaluated) -> list[dict[str, np.ndarray]]:
    """For each stay its hours with a label, a risk and an alert; labelled from the raw tables."""
    folder, _, scores = evaluated
    stays = pl.read_parquet(folder / "stays.parquet")
    episodes = pl.read_parquet(folder / "episodes.parquet")
    onset = dict(episodes.select("stay_id", "onset").iter_rows())
    end = dict(episodes.select("stay_id", "end").iter_rows())
    found = []
    for stay, admitted, left in stays.select("stay_id", "admitted_at", "discharged_at").iter_rows():
        hours, k = [], 1
        while admitted + k * HOUR <= left:  # nobody is there to be predicted for later
            hours.append(k)
            k += 1
        times = [admitted + hour * HOUR for hour in hours]
        septic = [
            stay in onset and onset[stay] <= time + HORIZON * HOUR and end[stay] > time
            for time in times
        ]
        of_stay = scores.filter(stay_id=stay).sort("time")
        risk = dict(of_stay.select("time", "risk").iter_rows())
        p = np.array([risk[time] for time in times])
        threshold = of_stay["threshold"][0]
        in_state = [stay in onset and onset[stay] <= time < end[stay] for time in times]
        found.append(
            {
                "y": np.array(septic, int),
                "p": p,
                "alert": p >= threshold,
                "sent": of_stay.filter(pl.col("time").is_in(times))["alert"].to_numpy(),
                "in_state": np.array(in_state),
            }
        )
    return found


def figure(evidence: Evidence, metric: str, subset: str = "all") -> float:
    return evidence.leaderboard.filter(metric=metric, subset=subset)["value"].item()


def join(rows: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([stay[name] for stay in rows])


def test_discrimination(evaluated, rows):
    _, evidence, _ = evaluated
    y, p = join(rows, "y"), join(rows, "p")
    assert evidence.leaderboard.filter(subset="all")["rows"].unique().to_list() == [len(y)]
    positives, negatives = p[y == 1], p[y == 0]
    above = (positives[:, None] > negatives).mean()
    level = (positives[:, None] == negatives).mean()
    assert figure(evidence, "auroc") == pytest.approx(above + level / 2, abs=1e-9)
    assert figure(evidence, "auroc") == pytest.approx(roc_auc_score(y, p), abs=1e-9)
    assert figure(evidence, "auprc") == pytest.approx(average_precision_score(y, p), abs=1e-9)
    new = ~join(rows, "in_state")
    assert new.sum() < len(y)
    for metric, compute in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        value = compute(y[new], p[new])
        assert figure(evidence, metric, "new_onsets") == pytest.approx(value, abs=1e-9)


def test_alerts(evaluated, rows):
    _, evidence, _ = evaluated
    y, alert = join(rows, "y"), join(rows, "alert")
    assert np.array_equal(alert, join(rows, "sent"))
    assert 0 < alert.sum() < len(alert)
    assert figure(evidence, "alert_share") == pytest.approx(alert.mean(), abs=1e-9)
    per_day = 24 * alert.sum() / len(alert)
    assert figure(evidence, "alerts_per_patient_day") == pytest.approx(per_day, abs=1e-9)
    ppv = (alert & (y == 1)).sum() / alert.sum()
    assert figure(evidence, "alert_ppv") == pytest.approx(ppv, abs=1e-9)
    f_measure = 2 * (alert & (y == 1)).sum() / (alert.sum() + y.sum())
    assert figure(evidence, "f_measure") == pytest.approx(f_measure, abs=1e-9)


def test_utility_of_the_challenge(evaluated, rows):
    """Of Reyna et al. 2020 (doi 10.1097/CCM.0000000000004145), hour by hour."""
    _, evidence, _ = evaluated
    observed = best = silent = 0.0
    for stay in rows:
        y = stay["y"]
        first = int(np.argmax(y)) if y.any() else None
        onset = None if first is None else first + 6
        for hour, alert in enumerate(stay["alert"]):
            observed += utility(hour, onset, alert=bool(alert))
            silent += utility(hour, onset, alert=False)
            best += max(utility(hour, onset, alert=True), utility(hour, onset, alert=False))
    expected = (observed - silent) / (best - silent)
    assert figure(evidence, "normalised_utility") == pytest.approx(expected, abs=1e-9)


def utility(hour: int, onset: int | None, *, alert: bool) -> float:
    """The utility of an alert, or of none, at an hour of a stay with that onset."""
    if onset is None:
        return -0.05 if alert else 0.0
    since = hour - onset
    if since > 3:
        return 0.0
    if alert:
        rising = (since + 12) / 6
        return max(rising, -0.05) if since <= -6 else (3 - since) / 9
    return 0.0 if since <= -6 else -2 * (since + 6) / 9
