"""What is flagged and what is not, and how often nothing is flagged for something."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from flowsheet.monitoring.findings import compare
from flowsheet.monitoring.reference import Reference


def changed(profile: pl.DataFrame, kind: str, of: str, change) -> pl.DataFrame:
    here = (pl.col("kind") == kind) & (pl.col("of") == of)
    return profile.with_columns(
        number=pl.when(here).then(change(pl.col("number"))).otherwise("number")
    )


@pytest.fixture(scope="module")
def reference(wards) -> Reference:
    return Reference.of(*wards.ward(1500, 1), "test")


def flagged(found) -> set[tuple[str, str]]:
    return {(flag.kind, flag.of) for flag in found.flags}


def test_unchanged_is_quiet(wards, reference, config):
    found = compare(reference, *wards.ward(600, 2), config)
    assert found.flags == ()
    assert found.tests == 2 * len(wards.VARIABLES) + 1 + 1 + 3


def test_a_shift_is_flagged_and_nothing_else(wards, reference, config):
    profile, risks = wards.ward(600, 3)
    found = compare(reference, changed(profile, "value", "hr", lambda v: v + 6), risks, config)
    assert flagged(found) == {("value", "hr")}
    (flag,) = found.flags
    assert flag.unit is None
    assert flag.standardised == pytest.approx(0.5, abs=0.15)
    assert flag.said.startswith("hr (heart rate, /min): mean 91")


def test_doubled_missingness_is_flagged(wards, reference, config):
    profile, risks = wards.ward(600, 4)
    found = compare(
        reference, changed(profile, "presence", "hr", lambda v: 1 - 2 * (1 - v)), risks, config
    )
    assert flagged(found) == {("presence", "hr")}


def test_a_variable_that_vanishes_is_flagged(wards, reference, config):
    profile, risks = wards.ward(600, 5)
    profile = profile.filter(~((pl.col("kind") == "value") & (pl.col("of") == "lact")))
    found = compare(reference, changed(profile, "presence", "lact", lambda v: 0 * v), risks, config)
    assert flagged(found) == {("presence", "lact")}
    gone = next(f for f in found.findings if (f.kind, f.of) == ("value", "lact"))
    assert gone.why_not == "0 patients now, 100 are needed"
    assert gone.p is None


@pytest.mark.parametrize(
    "case",
    [
        ("temp", lambda v: v * 1.8 + 32, "degF"),
        ("glu", lambda v: v / 18.016, "mmol/L"),
        ("crea", lambda v: v * 88.4, "umol/L"),
        ("hgb", lambda v: v * 10, "g/L"),
        ("wbc", lambda v: v * 1000, "/uL"),
    ],
)
def test_a_unit_mistake_is_named(wards, reference, config, case):
    of, wrong, unit = case
    profile, risks = wards.ward(600, 6)
    (flag,) = compare(reference, changed(profile, "value", of, wrong), risks, config).flags
    assert (flag.of, flag.unit) == (of, unit)
    assert flag.unit_share > 0.95
    assert f"looks like {unit}" in flag.said


def test_a_unit_mistake_of_some_stays_is_named(wards, reference, config):
    profile, risks = wards.ward(600, 7)
    some = pl.col("stay_id") < 150
    wrong = changed(
        profile, "value", "temp", lambda v: pl.when(some).then(v * 1.8 + 32).otherwise(v)
    )
    (flag,) = compare(reference, wrong, risks, config).flags
    assert flag.unit == "degF"
    assert flag.unit_share == pytest.approx(0.25, abs=0.01)


def test_risks_that_drift_are_flagged(wards, reference, config):
    profile, risks = wards.ward(600, 8)
    higher = risks.with_columns(risk=(pl.col("risk") * 1.5).clip(0, 0.99))
    assert ("risk", "mean risk") in flagged(compare(reference, profile, higher, config))


def test_lost_discrimination_is_flagged(wards, reference, config):
    profile, risks = wards.ward(900, 9)
    shuffled = risks.with_columns(y=pl.col("y").shuffle(seed=1))
    found = flagged(compare(reference, profile, shuffled, config))
    assert {("performance", "auroc"), ("performance", "calibration_slope")} <= found


def test_more_events_than_foretold_are_flagged(wards, reference, config):
    profile, risks = wards.ward(900, 10)
    rng = np.random.default_rng(0)
    odds = risks["risk"].to_numpy() / (1 - risks["risk"].to_numpy()) * np.e
    more = risks.with_columns(
        y=pl.Series(rng.random(risks.height) < odds / (1 + odds)).cast(pl.Int8)
    )
    found = compare(reference, profile, more, config)
    assert flagged(found) == {("performance", "calibration_intercept")}
    assert found.performance["observed_over_expected"].value > 1.5


def test_better_discrimination_is_no_alarm(wards, config):
    profile, risks = wards.ward(900, 11)
    worse = risks.with_columns(y=pl.col("y").shuffle(seed=1))
    found = compare(Reference.of(profile, worse, "test"), *wards.ward(900, 12), config)
    assert ("performance", "auroc") not in flagged(found)


def test_unknown_outcomes_are_not_estimable(wards, reference, config):
    profile, risks = wards.ward(600, 13)
    found = compare(reference, profile, risks.with_columns(y=pl.lit(0, pl.Int8)), config)
    said = [f.said for f in found.findings if f.kind == "performance"]
    assert found.flags == ()
    assert said[0].startswith("AUROC: not estimable (now: 0 rows with the event")


def test_rows_of_few_patients_are_not_estimable(wards, reference, config):
    profile, risks = wards.ward(600, 14)
    few = risks.with_columns(y=(pl.col("stay_id") < 10).cast(pl.Int8))
    assert compare(reference, profile, few, config).performance.why_not.startswith(
        "10 subjects with the event"
    )


def test_nobody_is_not_estimable(wards, reference, config):
    profile, risks = wards.ward(600, 15)
    found = compare(reference, profile.clear(), risks.clear(), config)
    assert (found.tests, found.flags) == (0, ())
    assert found.frame().height == len(found.findings)


def test_the_order_of_lines_does_not_matter(wards, reference, config):
    profile, risks = wards.ward(600, 16)
    shuffled = (
        profile.sample(fraction=1, shuffle=True, seed=3),
        risks.sample(fraction=1, shuffle=True, seed=4),
    )
    one, other = compare(reference, profile, risks, config), compare(reference, *shuffled, config)
    ours = {f.of + f.kind: f.p for f in one.findings}
    assert {f.of + f.kind: f.p for f in other.findings} == pytest.approx(ours, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("per_patient", [1, 3])
def test_false_alarms_come_as_seldom_as_stated(wards, config, per_patient):
    """Of reports on unchanged wards at most alpha flag anything, though the least change already counts as one."""
    repeats, alpha = 300, 0.1
    any_change = config.model_copy(
        update={
            "alpha": alpha,
            "ks_statistic": 1e-9,
            "auroc_loss": 1e-9,
            "slope_change": 1e-9,
            "intercept_change": 1e-9,
        }
    )
    alarms = 0
    for i in range(repeats):
        then = Reference.of(*wards.ward(600, 10_000 + 2 * i, per_patient, steps=2), "test")
        alarms += bool(
            compare(then, *wards.ward(400, 10_001 + 2 * i, per_patient, steps=2), any_change).flags
        )
    assert alarms / repeats <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / repeats)
