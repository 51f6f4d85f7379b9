"""Which changes are flagged, which are not, and how often nothing but chance is flagged."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from flowsheet.monitoring.findings import Findings, find_changes
from flowsheet.monitoring.performance import MINIMUM_BIN_ROWS
from flowsheet.monitoring.reference import Reference
from flowsheet.monitoring.report import describe_calibration, summarise
from tests.monitoring.simulated_profiles import VARIABLES, simulate_profile


def change_property(profile: pl.DataFrame, kind: str, name: str, change) -> pl.DataFrame:
    selected = (pl.col("kind") == kind) & (pl.col("name") == name)
    return profile.with_columns(
        value=pl.when(selected).then(change(pl.col("value"))).otherwise("value")
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_profile(*simulate_profile(1500, 1), "test")


def flagged_properties(findings: Findings) -> set[tuple[str, str]]:
    return {(flag.kind, flag.name) for flag in findings.flags}


def test_unchanged_records_are_not_flagged(reference, config):
    findings = find_changes(reference, *simulate_profile(600, 2), config)
    assert findings.flags == ()
    assert findings.tests == 2 * len(VARIABLES) + 1 + 1 + 4


def test_a_shift_is_flagged_and_nothing_else(reference, config):
    profile, risks = simulate_profile(600, 3)
    shifted = change_property(profile, "measured_value", "hr", lambda value: value + 6)
    findings = find_changes(reference, shifted, risks, config)
    assert flagged_properties(findings) == {("measured_value", "hr")}
    (flag,) = findings.flags
    assert flag.suspected_unit is None
    assert flag.standardised_difference == pytest.approx(0.5, abs=0.15)
    assert flag.summary.startswith("hr (heart rate, /min): mean 91")


def test_doubled_missingness_is_flagged(reference, config):
    profile, risks = simulate_profile(600, 4)
    sparser = change_property(profile, "measurement_rate", "hr", lambda rate: 1 - 2 * (1 - rate))
    findings = find_changes(reference, sparser, risks, config)
    assert flagged_properties(findings) == {("measurement_rate", "hr")}


def test_a_variable_that_is_no_longer_measured_is_flagged(reference, config):
    profile, risks = simulate_profile(600, 5)
    is_lactate_value = (pl.col("kind") == "measured_value") & (pl.col("name") == "lact")
    without_values = profile.filter(~is_lactate_value)
    unmeasured = change_property(without_values, "measurement_rate", "lact", lambda rate: 0 * rate)
    findings = find_changes(reference, unmeasured, risks, config)
    assert flagged_properties(findings) == {("measurement_rate", "lact")}
    values = next(f for f in findings.findings if (f.kind, f.name) == ("measured_value", "lact"))
    assert values.reason_not_estimable == "0 patients in the current data, 100 are needed"
    assert values.p is None


@pytest.mark.parametrize(
    "case",
    [
        ("temp", lambda value: value * 1.8 + 32, "degF"),
        ("glu", lambda value: value / 18.016, "mmol/L"),
        ("crea", lambda value: value * 88.4, "umol/L"),
        ("hgb", lambda value: value * 10, "g/L"),
        ("wbc", lambda value: value * 1000, "/uL"),
    ],
)
def test_a_wrong_unit_is_identified(reference, config, case):
    variable, convert, unit = case
    profile, risks = simulate_profile(600, 6)
    converted = change_property(profile, "measured_value", variable, convert)
    (flag,) = find_changes(reference, converted, risks, config).flags
    assert (flag.name, flag.suspected_unit) == (variable, unit)
    assert flag.suspected_unit_share > 0.95
    assert f"of the stays seem to be in {unit}" in flag.summary


def test_a_wrong_unit_in_some_stays_is_identified(reference, config):
    profile, risks = simulate_profile(600, 7)
    is_affected = pl.col("stay_id") < 150
    converted = change_property(
        profile,
        "measured_value",
        "temp",
        lambda value: pl.when(is_affected).then(value * 1.8 + 32).otherwise(value),
    )
    (flag,) = find_changes(reference, converted, risks, config).flags
    assert flag.suspected_unit == "degF"
    assert flag.suspected_unit_share == pytest.approx(0.25, abs=0.01)


def test_calibration_curves_are_kept_in_bins_of_many_rows(reference, config):
    profile, risks = simulate_profile(600, 8)
    halved = risks.with_columns(risk=pl.col("risk") / 2)
    performance = find_changes(reference, profile, halved, config).performance
    scored = risks.filter("scored")
    assert sum(b.rows for b in performance.calibration) <= scored.height
    assert all(b.rows >= MINIMUM_BIN_ROWS for b in performance.calibration)
    for kept in reference.performance.calibration:
        assert kept.low <= kept.observed <= kept.high
    predicted = sum(b.rows * b.predicted for b in performance.calibration)
    observed = sum(b.rows * b.observed for b in performance.calibration)
    assert observed / predicted == pytest.approx(2, rel=0.2)


def test_risks_that_drift_are_flagged(reference, config):
    profile, risks = simulate_profile(600, 8)
    higher = risks.with_columns(risk=(pl.col("risk") * 1.5).clip(0, 0.99))
    findings = find_changes(reference, profile, higher, config)
    assert ("risk", "mean risk") in flagged_properties(findings)


def test_lost_discrimination_is_flagged(reference, config):
    profile, risks = simulate_profile(900, 9)
    shuffled = risks.with_columns(y=pl.col("y").shuffle(seed=1))
    flagged = flagged_properties(find_changes(reference, profile, shuffled, config))
    assert {("performance", "auroc"), ("performance", "calibration_slope")} <= flagged


def test_more_events_than_expected_are_flagged(reference, config):
    profile, risks = simulate_profile(900, 10)
    rng = np.random.default_rng(0)
    odds = risks["risk"].to_numpy() / (1 - risks["risk"].to_numpy()) * np.e
    outcomes = pl.Series(rng.random(risks.height) < odds / (1 + odds)).cast(pl.Int8)
    findings = find_changes(reference, profile, risks.with_columns(y=outcomes), config)
    assert flagged_properties(findings) == {
        ("performance", "calibration_intercept"),
        ("performance", "observed_over_expected"),
    }
    assert findings.performance["observed_over_expected"].value > 1.5


def test_fewer_events_than_expected_are_flagged_although_discrimination_has_not_moved(config):
    """As at a second hospital: observed over expected falls from 0.95 to 0.80."""

    def scale_risks(risks: pl.DataFrame, ratio: float) -> pl.DataFrame:
        return risks.with_columns(risk=pl.col("risk") / ratio)

    profile, risks = simulate_profile(3000, 11)
    reference = Reference.from_profile(profile, scale_risks(risks, 0.95), "test")
    profile, risks = simulate_profile(3000, 12)
    findings = find_changes(reference, profile, scale_risks(risks, 0.8), config)
    flags = flagged_properties(findings)
    assert ("performance", "observed_over_expected") in flags
    assert ("performance", "auroc") not in flags
    assert findings.flags[0].kind == "performance"
    text = describe_calibration(reference.performance, findings.performance)
    assert text.startswith("Observed / expected events 0.7")


def test_calibration_in_the_large_is_estimated_from_few_events(reference, config):
    profile, risks = simulate_profile(300, 13)
    few = risks.with_columns(y=pl.when(pl.col("stay_id") < 4).then("y").otherwise(0).cast(pl.Int8))
    assert 0 < few["y"].sum() < 20
    performance = find_changes(reference, profile, few, config).performance
    assert performance.reason_not_estimable
    estimate = performance["observed_over_expected"]
    expected = few["y"].sum() / few["risk"].sum()
    assert estimate.value == pytest.approx(expected)
    assert estimate.low <= estimate.value <= estimate.high
    unknown = risks.with_columns(y=pl.lit(0, pl.Int8))
    performance = find_changes(reference, profile, unknown, config).performance
    assert "not judged" in describe_calibration(reference.performance, performance)


def test_flags_are_ranked_by_what_they_do_to_the_predictions(reference, config):
    """Heart rate moves with the severity that the risks follow; glucose is made independent."""
    profile, risks = simulate_profile(900, 14)
    rng = np.random.default_rng(0)
    noise = pl.Series(100 + 20 * rng.normal(size=profile.height))
    shifted = change_property(profile, "measured_value", "hr", lambda value: value + 6)
    shifted = change_property(shifted, "measured_value", "glu", lambda value: noise + 0 * value)
    findings = find_changes(reference, shifted, risks, config)
    flags = [flag for flag in findings.flags if flag.kind == "measured_value"]
    assert [flag.name for flag in flags][:1] == ["hr"]
    effects = {flag.name: abs(flag.effect_on_risk) for flag in flags}
    assert effects["hr"] > 0.005
    assert "moves the mean risk by +" in flags[0].summary


def test_what_could_not_be_judged_comes_first(reference, config):
    """Sixty stays are too few to compare distributions; silence about them is no all-clear."""
    findings = find_changes(reference, *simulate_profile(60, 15), config)
    assert not findings.is_judged
    assert findings.flags == ()
    text = summarise(findings)
    assert text.startswith("Not judged: 18 of 22 properties could not be compared (60 patients")
    assert "Of the 4 others none is flagged" in text
    judged = find_changes(reference, *simulate_profile(600, 16), config)
    assert judged.is_judged
    assert summarise(judged).startswith("No drift")


def test_better_discrimination_is_not_flagged(config):
    profile, risks = simulate_profile(900, 11)
    worse = risks.with_columns(y=pl.col("y").shuffle(seed=1))
    reference = Reference.from_profile(profile, worse, "test")
    findings = find_changes(reference, *simulate_profile(900, 12), config)
    assert ("performance", "auroc") not in flagged_properties(findings)


def test_without_outcomes_performance_is_not_estimable(reference, config):
    profile, risks = simulate_profile(600, 13)
    without_events = risks.with_columns(y=pl.lit(0, pl.Int8))
    findings = find_changes(reference, profile, without_events, config)
    summaries = [f.summary for f in findings.findings if f.kind == "performance"]
    assert findings.flags == ()
    assert summaries[0].startswith("AUROC: not estimable (current data: 0 rows with the event")


def test_many_rows_of_few_patients_are_not_enough_for_performance(reference, config):
    profile, risks = simulate_profile(600, 14)
    few = risks.with_columns(y=(pl.col("stay_id") < 10).cast(pl.Int8))
    performance = find_changes(reference, profile, few, config).performance
    assert performance.reason_not_estimable.startswith("10 subjects with the event")


def test_without_stays_nothing_is_estimable(reference, config):
    profile, risks = simulate_profile(600, 15)
    findings = find_changes(reference, profile.clear(), risks.clear(), config)
    assert (findings.tests, findings.flags) == (0, ())
    assert findings.frame().height == len(findings.findings)


def test_the_order_of_rows_does_not_matter(reference, config):
    profile, risks = simulate_profile(600, 16)
    shuffled_profile = profile.sample(fraction=1, shuffle=True, seed=3)
    shuffled_risks = risks.sample(fraction=1, shuffle=True, seed=4)
    findings = find_changes(reference, profile, risks, config)
    shuffled = find_changes(reference, shuffled_profile, shuffled_risks, config)
    p_values = {f.name + f.kind: f.p for f in findings.findings}
    shuffled_p_values = {f.name + f.kind: f.p for f in shuffled.findings}
    assert shuffled_p_values == pytest.approx(p_values, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("stays_per_patient", [1, 3])
def test_false_alerts_are_as_rare_as_alpha_promises(config, stays_per_patient):
    """At most alpha of the reports on unchanged records flag anything, with no minimum change."""
    repeats, alpha = 300, 0.1
    any_change = config.model_copy(
        update={
            "alpha": alpha,
            "minimum_ks_statistic": 1e-9,
            "auroc_loss": 1e-9,
            "calibration_slope_change": 1e-9,
            "calibration_intercept_change": 1e-9,
        }
    )
    false_alerts = 0
    for i in range(repeats):
        training = simulate_profile(600, 10_000 + 2 * i, stays_per_patient, steps=2)
        current = simulate_profile(400, 10_001 + 2 * i, stays_per_patient, steps=2)
        reference = Reference.from_profile(*training, "test")
        false_alerts += bool(find_changes(reference, *current, any_change).flags)
    assert false_alerts / repeats <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / repeats)
