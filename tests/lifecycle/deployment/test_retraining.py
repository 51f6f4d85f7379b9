"""Monthly retrains on records that grow: who is promoted, on which rows, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowsheet.config import EvaluationConfig, FeaturesConfig, PromotionConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.compare_models import compare_runs
from flowsheet.lifecycle.deployment.promotion import (
    PromotionResult,
    evaluate_candidate,
    promote,
    rollback,
)
from flowsheet.tracking import model_registry
from flowsheet.tracking.decisions import champion_history
from tests.lifecycle.deployment.growing_ward import Ward, configure, run

GATES = PromotionConfig(
    name="monthly", resamples=200, ece=0.2, calibration_slope=(0.3, 3), latency_ms=60_000
)
WITHOUT_LACTATE = FeaturesConfig(name="plain", variables=("hr",), hours_since_measured=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWSHEET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def retrain(home, ward: Ward, name: str = "sepsis", **changes) -> int:
    """Train on today's records and register; returns the version."""
    folder = ward.write(home / f"{name} {ward.stays} {ward.seed}")
    run(configure(name, folder, **changes))
    return model_registry.get_version(f"{name}-logistic").version


def judge(version: int, config: PromotionConfig = GATES) -> PromotionResult:
    return promote("sepsis-logistic", version, config, reason="monthly")


def gate(result: PromotionResult, name: str) -> str:
    return next(gate.summary for gate in result.gates if gate.name == name)


def live(home, months: int, lactate_in: int) -> list[int]:
    """The months whose model was promoted; month 0 is the first."""
    first, per_month = 200, 70
    promoted = []
    ward = Ward(first, lactate_since=first + (lactate_in - 1) * per_month)
    for month in range(months):
        today = replace(ward, stays=first + month * per_month)
        result = judge(retrain(home, today))
        if month:
            assert result.gates[0].passed, result.gates[0].summary
        if result.promoted:
            promoted.append(month)
        assert result.decision.rows is not None
        assert result.decision.rows.first_admission == "2030-01-01"
        if month == months - 2:  # somebody trains a model that ignores the new test
            worse = retrain(home, today, features=WITHOUT_LACTATE)
            refused = judge(worse)
            assert not refused.promoted
            assert [g.name for g in refused.gates if not g.passed] == ["better"]
    return promoted


def check_year(home, months: int, lactate_in: int) -> None:
    promoted = live(home, months, lactate_in)
    assert promoted[0] == 0
    assert [month for month in promoted if 0 < month < lactate_in] == []
    assert any(lactate_in <= month <= lactate_in + 2 for month in promoted)
    history = champion_history("sepsis-logistic")
    assert len(history) == len(promoted)
    decision = rollback("sepsis-logistic", version=history[0], reason="back to the first")
    assert decision.version == history[0]
    champion = model_registry.get_version_by_alias("sepsis-logistic", "champion")
    assert champion.version == history[0]
    assert champion_history("sepsis-logistic") == history[:1]
    again = judge(history[-1])
    assert again.promoted, [g.summary for g in again.gates]


@pytest.mark.slow
def test_some_months_of_retraining(home):
    check_year(home, months=3, lactate_in=1)


@pytest.mark.slow
def test_a_year_of_monthly_retraining(home):
    check_year(home, months=12, lactate_in=5)


def test_the_champion_scores_todays_rows_and_must_not_know_the_subjects(home):
    first = retrain(home, Ward(200), features=WITHOUT_LACTATE)
    assert judge(first).promoted
    grown = Ward(300, lactate_since=200)
    result = judge(retrain(home, grown))
    assert result.promoted, [g.summary for g in result.gates]
    rows = gate(result, "rows")
    assert "the champion scored them" in rows
    assert result.decision.rows.summary in rows
    assert "among patients not yet septic" in gate(result, "better")
    assert "all rows:" in gate(result, "better")

    # what compare says of both, and what a service that does not exist yet is told
    comparison = compare_runs(["sepsis-logistic/1", "sepsis-logistic/2"])
    assert "subjects in common" in comparison.rows
    today = compare_runs(["sepsis-logistic/1", "sepsis-logistic/2"], on="today")
    assert "held out of today's records" in today.rows
    candidate, gates = evaluate_candidate("sepsis-logistic", 2, GATES, service="not_yet")
    assert candidate.version == 2
    assert all(g.passed for g in gates), gates

    other_seed = retrain(home, grown, seed=4)
    refused = judge(other_seed)
    assert not refused.promoted
    assert [g.name for g in refused.gates if not g.passed][:2] == ["rows", "better"]
    assert "the champion was developed on" in gate(refused, "rows")
    assert "held-out subjects" in gate(refused, "rows")
    with pytest.raises(CheckFailed, match="sepsis-logistic/1 was developed on"):
        compare_runs(["sepsis-logistic/1", "sepsis-logistic/3"], on="today")
    permissive = judge(other_seed, GATES.model_copy(update={"max_seen_share": 1.0}))
    assert permissive.gates[0].passed
    assert "are left out: it was developed on them" in gate(permissive, "rows")
    with pytest.raises(UsageError, match="is not a former champion"):
        rollback("sepsis-logistic", version=3, reason="never was")


@pytest.mark.slow
def test_a_larger_test_part_is_refused_where_the_champion_knows_its_subjects(home):
    judge(retrain(home, Ward(200)))
    larger = EvaluationConfig(name="holdout", test=0.5, resamples=50)
    refused = judge(retrain(home, Ward(200, lactate_since=0), evaluation=larger))
    assert not refused.gates[0].passed
    strict = GATES.model_copy(update={"max_seen_share": 0.0})
    assert "at most 0%" in gate(judge(2, strict), "rows")
