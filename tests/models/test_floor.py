"""The floor of the ladder: prevalence, the clock, and bedside scores of hand-computed stays."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from flowsheet.cohort.sources.simulated import dynamics
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.errors import CheckFailed
from flowsheet.models._platt import Platt
from flowsheet.models.base import MODELS, Context
from flowsheet.models.clock import Clock
from flowsheet.models.prevalence import Prevalence
from flowsheet.testing.sequences import plain_sequences
from flowsheet.windows.sequences import Feature

NAN = float("nan")
INSULIN = {"doses": [4, 8, 12], "reference": 8, "chance": 0.1}

SCORES = ("sofa", "qsofa", "sirs", "news2", "mews", "shock_index")
VARIABLES = (
    *("hr", "sbp", "map", "resp", "temp", "o2sat", "gcs", "fio2", "vent", "po2", "pco2"),
    *("plt", "bili", "crea", "wbc"),
)
WELL = {
    **{"hr": 75, "sbp": 120, "map": 85, "resp": 14, "temp": 37.0, "o2sat": 98, "gcs": 15},
    **{"fio2": 21, "vent": 0, "po2": 95, "pco2": 40, "plt": 250, "bili": 0.7, "crea": 0.9},
    "wbc": 8.0,
}
SHOCK = {
    **{"hr": 131, "sbp": 88, "map": 62, "resp": 26, "temp": 39.2, "o2sat": 91, "gcs": 12},
    **{"fio2": 60, "vent": 1, "po2": 70, "pco2": 30, "plt": 95, "bili": 2.0, "crea": 3.5},
    "wbc": 18.0,
}
STARTING = {
    **{"hr": 91, "sbp": 101, "map": 70, "resp": 22, "temp": 38.0, "o2sat": 95, "gcs": 14},
    **{"fio2": 21, "vent": 0, "po2": 84, "pco2": 33, "plt": 149, "bili": 1.2, "crea": 1.2},
    "wbc": 12.0,
}
LOW = {
    **{"hr": 39, "sbp": 70, "map": 69, "resp": 8, "temp": 34.9, "o2sat": 93, "gcs": 6},
    **{"fio2": 21, "vent": 0, "po2": 60, "pco2": 60, "plt": 19, "bili": 12.0, "crea": 5.0},
    "wbc": 3.9,
}
BY_HAND = {
    # respiration + coagulation + liver + circulation + brain + kidneys
    "sofa": (0, 3 + 2 + 2 + 1 + 2 + 3, 0 + 1 + 1 + 0 + 1 + 1, 2 + 4 + 4 + 1 + 3 + 4),
    # respiratory rate + mentation + systolic pressure
    "qsofa": (0, 3, 1 + 1 + 0, 0 + 1 + 1),
    # temperature + heart rate + respiration + white cells
    "sirs": (0, 4, 0 + 1 + 1 + 0, 1 + 0 + 0 + 1),
    # breathing + saturation + oxygen + pressure + pulse + consciousness + temperature
    "news2": (
        0,
        3 + 3 + 2 + 3 + 3 + 3 + 2,
        2 + 1 + 0 + 1 + 1 + 3 + 0,
        3 + 2 + 0 + 3 + 3 + 3 + 3,
    ),
    # pressure + pulse + breathing + temperature + consciousness
    "mews": (0, 1 + 3 + 2 + 2 + 1, 0 + 0 + 2 + 0 + 1, 3 + 2 + 2 + 2 + 3),
    "shock_index": (75 / 120, 131 / 88, 91 / 101, 39 / 70),
}


def clinical_sequences(patients, variables=VARIABLES):
    """One row for each patient, with the columns of ``variables``."""
    x = np.array([[patient.get(name, NAN) for name in variables] for patient in patients])
    features = tuple(Feature(f"{name}_last", "value", name) for name in variables)
    sequences = plain_sequences(x, np.arange(len(patients)) % 2)
    return replace(sequences, features=features)


def fit(kind, train, valid=None, **params):
    cls = MODELS.get(kind)
    model = cls(cls.Params(**params))
    model.fit(train, train if valid is None else valid, Context(seed=1))
    return model


@pytest.mark.parametrize("kind", SCORES)
def test_scores_of_hand_computed_patients(kind):
    patients = clinical_sequences([WELL, SHOCK, STARTING, LOW])
    expected = BY_HAND[kind]
    np.testing.assert_allclose(fit(kind, patients).score(patients), expected, atol=1e-4)


def test_vasopressors_count_by_their_rate():
    """Dopamine 2, norepinephrine at an unknown or a low rate 3, above 0.1 mcg/kg/min 4."""
    names = (*(*VARIABLES, "norepinephrine_equivalents", "norepinephrine", "dopamine"),)
    patients = [
        {**WELL, "dopamine": 1},
        {**WELL, "norepinephrine": 1},
        {**WELL, "norepinephrine": 1, "norepinephrine_equivalents": 0.08},
        {**WELL, "norepinephrine": 1, "norepinephrine_equivalents": 0.3},
        {**WELL, "map": 60},
    ]
    sequences = clinical_sequences(patients, names)
    assert fit("sofa", sequences).score(sequences).tolist() == [2, 3, 3, 4, 1]


@pytest.mark.parametrize("kind", SCORES)
def test_what_is_not_known_counts_as_normal(kind):
    """In single rows; the shock index takes the middle of its normal range."""
    patients = clinical_sequences([WELL, SHOCK, {}])
    normal = 0.6 if kind == "shock_index" else 0
    assert fit(kind, patients).score(patients)[2] == pytest.approx(normal)


def test_absent_components_are_reported_and_too_few_exclude_the_score():
    variables = ("resp", "sbp", "hr")
    patients = clinical_sequences([WELL, SHOCK] * 5, variables)
    lines = []
    model = MODELS.get("qsofa")(MODELS.get("qsofa").Params())
    model.fit(patients, patients, Context(seed=1, progress=lines.append))
    assert any("counted as normal: mentation (1 of 3 components)" in line for line in lines)
    table = model.tables()["components"]
    assert table.filter("counted_as_normal")["component"].to_list() == ["mentation"]
    with pytest.raises(CheckFailed, match=r"(?s)too few variables: 1 of the score's 6.*bili"):
        fit("sofa", clinical_sequences([WELL, SHOCK] * 5, ("plt", "hr")))


def test_a_variable_that_is_never_measured_is_absent():
    patients = clinical_sequences([{**WELL, "gcs": NAN}, {**SHOCK, "gcs": NAN}] * 5)
    assert fit("qsofa", patients).missing == ("mentation",)


def test_without_recalibration_the_published_cut_off_is_even_odds():
    patients = clinical_sequences([WELL, SHOCK, STARTING, LOW])
    for kind in ("sofa", "qsofa", "sirs", "news2", "mews"):
        model = fit(kind, patients, recalibrated=False)
        p, points = model.predict_proba(patients), model.score(patients)
        np.testing.assert_array_equal(p > 0.5, points >= model.cut_off)


def test_recalibration_is_a_logistic_regression_on_the_points():
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 4, 2000)
    patients = clinical_sequences([(WELL, SHOCK, STARTING, LOW)[i] for i in drawn])
    y = rng.random(2000) < np.array([0.1, 0.6, 0.2, 0.4])[drawn]
    patients = replace(patients, y=y.astype(np.int8))
    model = fit("qsofa", patients)
    assert model.platt == Platt.fit((model.score(patients), patients.y))
    assert model.predict_proba(patients).mean() == pytest.approx(y.mean(), abs=0.005)


def test_a_score_that_ranks_the_wrong_way_keeps_its_direction():
    """Its risk is nearly the base rate, still rising with the points."""
    patients = clinical_sequences([WELL] * 50 + [SHOCK] * 50)
    inverted = replace(patients, y=np.repeat([1, 0], 50).astype(np.int8))
    p = fit("qsofa", inverted).predict_proba(inverted)
    np.testing.assert_allclose(p, 0.5, atol=1e-5)
    assert p[99] > p[0]


def ward(risk_by_step, stays=4000, seed=1):
    """Stays of as many steps as there are risks."""
    rng = np.random.default_rng(seed)
    length = len(risk_by_step)
    risk = np.tile(risk_by_step, stays)
    y = rng.random(len(risk)) < risk
    return plain_sequences(rng.normal(size=(len(risk), 1)), y, length=length)


def test_the_clock_is_the_share_of_events_at_each_step():
    risks = np.array([0.1, 0.3, 0.2, 0.05])
    train = ward(risks)
    model = fit("clock", train, shape="binned")
    p = model.predict_proba(train)
    for step in range(1, 5):
        at_step = train.step == step
        share = train.y[at_step].mean()
        np.testing.assert_allclose(p[at_step], share, atol=2e-4)
    np.testing.assert_allclose(model.curve.risk, risks, atol=0.02)


def test_the_clock_chooses_its_shape_on_the_validation_split():
    assert Clock.Params().shape == "auto"
    rising = np.linspace(0.02, 0.3, 8)
    train, valid = ward(rising, 300), ward(rising, 300, seed=2)
    model = fit("clock", train, valid)
    assert (np.diff(model.curve.risk) >= 0).all()
    peak = np.array([0.05, 0.4, 0.05, 0.4])
    model = fit("clock", ward(peak, 500), ward(peak, 500, seed=2))
    assert np.diff(model.curve.risk).min() < -0.2


def test_rare_steps_share_a_bin_of_the_clock():
    """And steps that no training stay reached have the risk of the last bin."""
    train = ward(np.full(30, 0.01), stays=100)
    model = fit("clock", train, least_events=10, shape="binned")
    assert len(model.curve.risk) <= 3
    later = replace(train, step=train.step + 1000)
    np.testing.assert_array_equal(model.predict_proba(later), model.curve.risk[-1])
    assert model.tables()["risk_by_step"]["last_step"][-1] == 30


def test_prevalence_is_the_share_of_scored_rows_with_the_event():
    train = ward(np.array([0.2]), stays=999)
    p = Prevalence(Prevalence.Params())
    p.fit(train, train, Context(seed=1))
    expected = (train.y.sum() + 0.5) / 1000
    np.testing.assert_array_equal(p.predict_proba(train), expected)


def test_on_the_simulated_ward_the_clock_is_its_closed_form():
    """Without covariates the ward is a two-state chain, whose share of septic stays is known."""
    quiet = {"age": 0, "male": 0, "frailty_sd": 0, "physiology": {}}
    options = WardOptions(
        stays=2000,
        min_steps=12,
        max_steps=12,
        response={"intercept": -2.5, "persistence": 2.0, **quiet},
        units={"MICU": {"share": 1, "effect": 0}},
        drugs={"insulin": {**INSULIN, "curve": {"shape": "none"}}},
    )
    patients = [dynamics.draw_patients(options, block) for block in range(2)]
    states = [dynamics.simulate_trajectory(options, p, b).y for b, p in enumerate(patients)]
    state = np.concatenate(states)[:, :12].astype(np.int8)
    train = plain_sequences(np.zeros((state[:, 1:].size, 1)), state[:, 1:].ravel(), length=11)
    risk = fit("clock", train, shape="binned").predict_proba(train)
    stays, (new, lasting) = len(state), expit([-2.5, -0.5])
    share = new
    for step in range(1, 12):
        share = new * (1 - share) + lasting * share
        standard_error = np.sqrt(share * (1 - share) / stays)
        at_step = train.step == step
        np.testing.assert_allclose(risk[at_step], share, atol=4 * standard_error)
