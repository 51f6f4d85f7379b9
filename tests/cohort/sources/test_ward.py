"""The simulated ward keeps its own law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from flowsheet.cohort.sources.simulated import dynamics as _ward
from flowsheet.cohort.sources.simulated.process import Drug, WardOptions
from flowsheet.cohort.sources.simulated.response_curves import (
    Exponential,
    Hump,
    Nothing,
    Plateau,
    Power,
)

LAGS = np.arange(200, dtype=float)


@pytest.fixture(scope="module")
def options() -> WardOptions:
    return WardOptions(stays=1500)


@pytest.fixture(scope="module")
def rows(options: WardOptions) -> dict[str, np.ndarray]:
    """(probability of the next step, what came, state now, drugs' logits) of every step that has a next one."""
    parts = []
    for block in range(3):
        who = _ward.people(options, block)
        what = _ward.course(options, who, block)
        step = np.arange(options.max_steps - 1)
        seen = step + 1 < who.steps[:, None]
        act = _ward.kernel(options)
        drugs = sum(
            np.pad(what.doses, ((0, 0), (lag, 0), (0, 0)))[:, : options.max_steps] @ act[lag]
            for lag in range(len(act))
        )
        before = np.pad(what.y, ((0, 0), (1, 0)))[:, :-1]
        columns = {
            "p": what.probability[:, :-1],
            "next": what.y[:, 1:],
            "now": what.y[:, :-1],
            "before": before[:, :-1],
            "drugs": drugs[:, :-1],
            "standing": np.broadcast_to(_ward.standing(options, who)[:, None], seen.shape),
            "inflammation": what.factors[:, 1:-1, 0],
            "circulation": what.factors[:, 1:-1, 1],
            "organs": what.factors[:, 1:-1, 2],
        }
        parts.append({name: values[seen] for name, values in columns.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@given(
    st.one_of(
        st.builds(Exponential, tau=st.floats(0.1, 50)),
        st.builds(Hump, peak=st.integers(1, 50).map(float), sharpness=st.floats(0.2, 10)),
        st.builds(Plateau, first=st.integers(0, 20), last=st.integers(20, 60)),
        st.builds(Power, scale=st.floats(0.1, 50), exponent=st.floats(0.1, 5)),
    )
)
def test_a_curve_peaks_at_one_and_never_turns_negative(curve):
    values = curve.at(LAGS)
    assert values.min() >= 0
    assert values.max() == pytest.approx(1)


def test_curves_have_their_shapes():
    assert Exponential(tau=4).at(LAGS)[4] == pytest.approx(np.exp(-1))
    hump = Hump(peak=6).at(LAGS)
    assert hump[0] == 0
    assert hump.argmax() == 6
    assert np.flatnonzero(Plateau(first=3, last=7).at(LAGS)).tolist() == [3, 4, 5, 6, 7]
    soft = Plateau(first=18, last=44, shoulder=2).at(LAGS)
    assert soft[31] > 0.99
    assert soft[17] == pytest.approx(1 - soft[18], abs=1e-5)
    assert soft[45] == pytest.approx(1 - soft[44], abs=1e-5)
    power = Power(scale=3, exponent=1).at(LAGS)
    assert power[9] == pytest.approx(0.25)
    assert not Nothing().at(LAGS).any()


def test_probabilities_are_the_law_written_out(options: WardOptions, rows):
    law = options.response
    physiology = sum(law.physiology[name] * rows[name] for name in law.physiology)
    eta = rows["standing"] + law.persistence * rows["now"] + physiology + rows["drugs"]
    np.testing.assert_allclose(rows["p"], expit(eta), rtol=1e-9)


def test_responses_come_as_often_as_the_law_says(rows):
    order = np.argsort(rows["p"])
    for bin_ in np.array_split(order, 20):
        p, came = rows["p"][bin_], rows["next"][bin_]
        error = np.sqrt((p * (1 - p)).sum()) / len(p)
        assert abs(came.mean() - p.mean()) < 4 * error + 1e-9


def test_nothing_else_predicts_what_the_law_leaves_open(rows):
    """The martingale property: residuals are uncorrelated with everything that was known."""
    p, residual = rows["p"], rows["next"] - rows["p"]
    for name in ("now", "before", "drugs", "standing", "inflammation", "circulation", "organs"):
        known = rows[name] - rows[name].mean()
        spread = np.sqrt((known**2 * p * (1 - p)).sum())
        assert abs((known * residual).sum()) < 4 * spread, name


def test_the_law_beats_what_knows_less(rows):
    oracle = log_loss(rows["next"], rows["p"])
    base = log_loss(rows["next"], np.full(len(rows["next"]), rows["next"].mean()))
    history = np.column_stack([rows["now"], rows["before"]]).astype(float)
    ar = LogisticRegression(C=np.inf).fit(history, rows["next"]).predict_proba(history)[:, 1]
    score = np.log(rows["p"] / (1 - rows["p"]))[:, None]
    recalibrated = LogisticRegression(C=np.inf).fit(score, rows["next"])
    assert oracle < 0.7 * log_loss(rows["next"], ar) < 0.7 * base
    assert recalibrated.coef_[0, 0] == pytest.approx(1, abs=0.05)
    assert recalibrated.intercept_[0] == pytest.approx(0, abs=0.1)
    assert (
        log_loss(rows["next"], recalibrated.predict_proba(score)[:, 1]) > oracle - 2e-4
    )  # two parameters' luck


def test_the_default_ward_is_neither_rare_nor_common_and_remembers_long(options: WardOptions, rows):
    assert 0.10 < rows["next"].mean() < 0.25
    reach = np.abs(
        _ward.kernel(options)[30:] * [drug.reference for drug in options.drugs.values()]
    ).max(axis=0)
    assert reach.max() > 2
    shapes = {drug.curve.shape for drug in options.drugs.values()}
    assert shapes == {"exponential", "hump", "plateau", "power", "none"}


def test_a_drug_without_effect_has_none(options: WardOptions):
    """Other doses of insulin, the same fate: only its name differs from water."""
    other = options.model_copy(
        update={"drugs": {**options.drugs, "insulin": Drug(doses=(4,), reference=8, chance=0.5)}}
    )
    one, two = (_ward.course(o, _ward.people(o, 0), 0) for o in (options, other))
    assert not np.array_equal(one.doses, two.doses)
    np.testing.assert_array_equal(one.probability, two.probability)


def test_a_protective_drug_protects_and_a_harmful_one_harms(options: WardOptions):
    def share_septic(effect: float) -> float:
        drug = options.drugs["propofol"].model_copy(update={"effect": effect})
        changed = options.model_copy(update={"drugs": {**options.drugs, "propofol": drug}})
        return float(_ward.course(changed, _ward.people(changed, 0), 0).y.mean())

    assert share_septic(-3) < share_septic(0) < share_septic(3)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), cut=st.integers(1, 69))
def test_a_dose_acts_forward_by_its_curve_and_no_other_way(seed: int, cut: int):
    """Effects that end at lag `cut` cannot be told from lasting ones during the first `cut` steps."""

    def course(last: int) -> _ward.Course:
        drugs = WardOptions().drugs.items()
        curve = Plateau(first=0, last=last)
        options = WardOptions(
            seed=seed,
            drugs={name: drug.model_copy(update={"curve": curve}) for name, drug in drugs},
        )
        return _ward.course(options, _ward.people(options, 0), 0)

    ending, lasting = course(cut - 1), course(200)
    np.testing.assert_array_equal(ending.y[:, :cut], lasting.y[:, :cut])
    np.testing.assert_allclose(ending.probability[:, :cut], lasting.probability[:, :cut])
    assert not np.array_equal(ending.probability, lasting.probability)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_steps": 9, "max_steps": 8}, "min_steps"),
        ({"drugs": {"vancomycine": {"doses": [1], "reference": 1, "chance": 0.1}}}, "vancomycine"),
        ({"response": {"physiology": {"mood": 1.0}}}, "mood"),
        ({"drugs": {"insulin": {"doses": [1], "reference": 1, "chance": 1.5}}}, "less than 1"),
        ({"drugs": {"insulin": {"doses": [], "reference": 1, "chance": 0.5}}}, "at least 1 item"),
        ({"stay": 3}, "Extra inputs"),
    ],
)
def test_a_ward_that_cannot_be_is_refused(values, said: str):
    with pytest.raises(ValidationError, match=said):
        WardOptions(**values)
