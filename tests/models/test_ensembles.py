"""Averages and stacks of other models."""

import numpy as np
import pytest
from scipy.special import expit, logit

from flowsheet.compose import compose
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment.check import check_config
from flowsheet.lifecycle.experiment.train import list_members
from flowsheet.models._ensemble import Member
from flowsheet.models._out_of_fold import assign_folds, predict_out_of_fold
from flowsheet.models.average import Average
from flowsheet.models.base import Context
from flowsheet.models.stack import Stack
from flowsheet.prediction.package_code import collect_code
from flowsheet.testing.sequences import toy_sequences

MEMBERS = ("logistic_regression", "naive_bayes")


@pytest.fixture(scope="module")
def parts():
    return [toy_sequences(stays, stays, raw=True) for stays in (80, 60, 40)]


def fit(cls, parts, **params):
    model = cls(cls.Params(members=MEMBERS, **params))
    model.fit(parts[0], parts[1], Context(seed=1))
    return model


def member_risks(model, sequences):
    return [m.model.predict_proba(m.scale(sequences)) for m in model.members.values()]


def test_an_average_is_the_mean_of_the_log_odds(parts):
    model = fit(Average, parts)
    expected = expit(np.mean([logit(p) for p in member_risks(model, parts[2])], axis=0))
    np.testing.assert_allclose(model.predict_proba(parts[2]), expected, rtol=1e-9)
    assert [member.scaler is None for member in model.members.values()] == [False, True]


def test_a_stack_without_folds_is_fitted_on_the_validation_rows(parts):
    """Strongly penalised it is the recalibrated average, hardly penalised it follows the better."""
    train, valid, _ = parts
    equal = fit(Stack, parts, folds=0, l2=1e9)
    assert equal.weights[0] == pytest.approx(equal.weights[1], rel=1e-4)
    free = fit(Stack, parts, folds=0, l2=1e-6)
    p = free.predict_proba(valid)[valid.scored]
    assert p.mean() == pytest.approx(valid.y[valid.scored].mean(), abs=1e-6)
    no_rows = valid.take(np.array([], dtype=np.int64))
    averaged = fit(Stack, [train, no_rows], folds=0)
    np.testing.assert_array_equal(averaged.weights, [0.5, 0.5])


def test_a_stack_is_fitted_on_predictions_of_subjects_that_no_member_has_seen(parts):
    train, valid, _ = parts
    whole = list(fit(Average, parts).members.values())
    log_odds, y = predict_out_of_fold(whole, train, valid, Context(seed=1), folds=3)
    folds = assign_folds(train, valid, 3, seed=1)
    fold_of: dict[int, set[int]] = {}
    expected, labels = [], []
    for k in range(3):
        in_fold = [fold == k for fold in folds]
        others = [part.take(~chosen) for part, chosen in zip((train, valid), in_fold, strict=True)]
        members = [member.refit(*others, Context(seed=1)) for member in whole]
        for part, chosen in zip((train, valid), in_fold, strict=True):
            held_out = part.take(chosen)
            for subject in held_out.subject_id:
                fold_of.setdefault(int(subject), set()).add(k)
            rows = [m.predict_log_odds(held_out)[held_out.scored] for m in members]
            expected.append(np.stack(rows, axis=1))
            labels.append(held_out.y[held_out.scored])
    np.testing.assert_allclose(log_odds, np.concatenate(expected), rtol=1e-9)
    np.testing.assert_array_equal(y, np.concatenate(labels))
    assert {len(found) for found in fold_of.values()} == {1}
    assert len(y) == train.scored.sum() + valid.scored.sum()
    stack = fit(Stack, parts, l2=1e-6)
    eta = stack.intercept + log_odds @ stack.weights
    assert expit(eta).mean() == pytest.approx(y.mean(), abs=1e-6)


def test_a_killed_stack_resumes_after_its_last_fold(parts, tmp_path, monkeypatch):
    whole = fit(Stack, parts)
    fits = []
    refit = Member.refit

    def count(member, *args):
        if len(fits) == 3:
            raise KeyboardInterrupt
        fits.append(member.kind)
        return refit(member, *args)

    monkeypatch.setattr(Member, "refit", count)
    context = Context(seed=1, checkpoints=tmp_path)
    model = Stack(Stack.Params(members=MEMBERS))
    with pytest.raises(KeyboardInterrupt):
        model.fit(parts[0], parts[1], context)
    fits[:] = [None, None]  # of the first fold, which is finished
    monkeypatch.setattr(Member, "refit", refit)
    model.fit(parts[0], parts[1], context)
    np.testing.assert_array_equal(model.weights, whole.weights)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"inner-fold-{k}.npy" for k in range(3)
    ]


def test_contributions_are_the_weighted_ones_of_the_members(parts):
    model, rows = fit(Stack, parts), np.array([0, 3, 7])
    own = [m.explain(parts[2], rows).totals for m in model.members.values()]
    expected = model.weights[0] * own[0] + model.weights[1] * own[1]
    np.testing.assert_allclose(model.explain(parts[2], rows).totals, expected, atol=1e-12)


def test_members_are_models_of_the_experiment():
    names = "models=[average,gradient_boosting,gru]"
    config = compose("demo", [names, "models.average.params.members=[gru,gradient_boosting]"])
    check_config(config)
    assert list_members(config, "average") == ["gru", "gradient_boosting"]
    assert list_members(config, "gru") == []
    assert list_members(compose("demo", ["models=[stack,gru]"]), "stack") == ["gru"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("[gru,gruu]", "there is no model called 'gruu'"),
        ("[gru,stack]", "stack cannot be a member"),
        ("[gru,average]", "there is no model called 'average'"),
        ("[gru]", "members"),
    ],
)
def test_wrong_members_are_refused(members, message):
    with pytest.raises(UsageError) as error:
        check_config(
            compose("demo", ["models=[average,gru]", f"models.average.params.members={members}"])
        )
    assert message in str(error.value)


def test_a_package_needs_the_libraries_of_its_members(parts):
    from flowsheet.models.gradient_boosting import GradientBoosting

    alone = collect_code(Average).requirements
    with_trees = collect_code(Average, [GradientBoosting]).requirements
    assert any(name.startswith("lightgbm") for name in set(with_trees) - set(alone))
