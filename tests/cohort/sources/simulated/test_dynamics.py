"""The simulated ward follows its data-generating process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from flowsheet.cohort.sources.simulated.data_generating_process import SimulatedDrug, WardOptions
from flowsheet.cohort.sources.simulated.dynamics import (
    Trajectory,
    compute_baseline_logits,
    compute_effect_kernel,
    draw_patients,
    simulate_trajectory,
)
from flowsheet.cohort.sources.simulated.response_curves import Plateau


def simulate_first_block(options: WardOptions) -> Trajectory:
    return simulate_trajectory(options, draw_patients(options, 0), 0)


def replace_drug(options: WardOptions, name: str, drug: SimulatedDrug) -> WardOptions:
    return options.model_copy(update={"drugs": {**options.drugs, name: drug}})


@pytest.fixture(scope="module")
def options() -> WardOptions:
    return WardOptions(stays=1500)


@pytest.fixture(scope="module")
def rows(options: WardOptions) -> dict[str, np.ndarray]:
    """Every step that has a next one: its state, what determines the next step, and that step."""
    parts = [_rows_of_block(options, block) for block in range(3)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows_of_block(options: WardOptions, block: int) -> dict[str, np.ndarray]:
    patients = draw_patients(options, block)
    trajectory = simulate_trajectory(options, patients, block)
    baseline = compute_baseline_logits(options, patients)
    has_next = np.arange(1, options.max_steps) < patients.steps[:, None]
    kernel = compute_effect_kernel(options)
    drugs = np.zeros(trajectory.y.shape)
    for lag, effects in enumerate(kernel):
        earlier_doses = np.pad(trajectory.doses, ((0, 0), (lag, 0), (0, 0)))
        drugs += earlier_doses[:, : options.max_steps] @ effects
    previous = np.pad(trajectory.y, ((0, 0), (1, 0)))[:, :-1]
    columns = {
        "p": trajectory.probability[:, :-1],
        "next": trajectory.y[:, 1:],
        "current": trajectory.y[:, :-1],
        "previous": previous[:, :-1],
        "drugs": drugs[:, :-1],
        "baseline": np.broadcast_to(baseline[:, None], has_next.shape),
        "inflammation": trajectory.factors[:, 1:-1, 0],
        "circulation": trajectory.factors[:, 1:-1, 1],
        "organs": trajectory.factors[:, 1:-1, 2],
    }
    return {name: values[has_next] for name, values in columns.items()}


def test_probabilities_equal_the_documented_equation(options: WardOptions, rows):
    response = options.response
    physiology = sum(response.physiology[name] * rows[name] for name in response.physiology)
    logits = rows["baseline"] + response.persistence * rows["current"] + physiology + rows["drugs"]
    np.testing.assert_allclose(rows["p"], expit(logits), rtol=1e-9)


def test_responses_are_as_frequent_as_their_probabilities(rows):
    for ventile in np.array_split(np.argsort(rows["p"]), 20):
        p = rows["p"][ventile]
        error = np.sqrt((p * (1 - p)).sum()) / len(p)
        assert abs(rows["next"][ventile].mean() - p.mean()) < 4 * error + 1e-9


def test_the_residuals_are_uncorrelated_with_everything_in_the_past(rows):
    """The martingale property: nothing predicts what the true probability leaves open."""
    p = rows["p"]
    residual = rows["next"] - p
    for name in (
        "current",
        "previous",
        "drugs",
        "baseline",
        "inflammation",
        "circulation",
        "organs",
    ):
        centred = rows[name] - rows[name].mean()
        spread = np.sqrt((centred**2 * p * (1 - p)).sum())
        assert abs((centred * residual).sum()) < 4 * spread, name


def test_no_model_with_less_information_beats_the_oracle(rows):
    y = rows["next"]
    oracle = log_loss(y, rows["p"])
    prevalence = log_loss(y, np.full(len(y), y.mean()))
    history = np.column_stack([rows["current"], rows["previous"]]).astype(float)
    ar = LogisticRegression(C=np.inf).fit(history, y).predict_proba(history)[:, 1]
    assert oracle < 0.7 * log_loss(y, ar) < 0.7 * prevalence


def test_recalibration_cannot_improve_the_oracle(rows):
    y = rows["next"]
    logits = np.log(rows["p"] / (1 - rows["p"]))[:, None]
    recalibrated = LogisticRegression(C=np.inf).fit(logits, y)
    assert recalibrated.coef_[0, 0] == pytest.approx(1, abs=0.05)
    assert recalibrated.intercept_[0] == pytest.approx(0, abs=0.1)
    # two fitted parameters gain a little by chance
    assert log_loss(y, recalibrated.predict_proba(logits)[:, 1]) > log_loss(y, rows["p"]) - 2e-4


def test_sepsis_in_the_default_ward_is_neither_rare_nor_common(rows):
    assert 0.10 < rows["next"].mean() < 0.25


def test_the_default_ward_has_every_shape_of_curve_and_a_late_effect(options: WardOptions):
    references = [drug.reference for drug in options.drugs.values()]
    late_effects = np.abs(compute_effect_kernel(options)[30:] * references).max(axis=0)
    assert late_effects.max() > 2
    shapes = {drug.curve.shape for drug in options.drugs.values()}
    assert shapes == {"exponential", "hump", "plateau", "power", "none"}


def test_doses_of_a_drug_without_effect_change_nothing(options: WardOptions):
    placebo = SimulatedDrug(doses=(4,), reference=8, chance=0.5)
    one = simulate_first_block(options)
    other = simulate_first_block(replace_drug(options, "insulin", placebo))
    assert not np.array_equal(one.doses, other.doses)
    np.testing.assert_array_equal(one.probability, other.probability)


def test_a_negative_effect_protects_and_a_positive_effect_harms(options: WardOptions):
    def share_septic(effect: float) -> float:
        drug = options.drugs["propofol"].model_copy(update={"effect": effect})
        return float(simulate_first_block(replace_drug(options, "propofol", drug)).y.mean())

    assert share_septic(-3) < share_septic(0) < share_septic(3)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), cut=st.integers(1, 69))
def test_a_dose_acts_on_later_steps_only_and_by_its_curve(seed: int, cut: int):
    """Effects that end at lag ``cut`` equal lasting ones during the first ``cut`` steps."""

    def simulate(last: int) -> Trajectory:
        curve = Plateau(first=0, last=last)
        drugs = {
            name: drug.model_copy(update={"curve": curve})
            for name, drug in WardOptions().drugs.items()
        }
        return simulate_first_block(WardOptions(seed=seed, drugs=drugs))

    ending = simulate(cut - 1)
    lasting = simulate(200)
    np.testing.assert_array_equal(ending.y[:, :cut], lasting.y[:, :cut])
    np.testing.assert_allclose(ending.probability[:, :cut], lasting.probability[:, :cut])
    assert not np.array_equal(ending.probability, lasting.probability)
