import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.config import EvaluationConfig, Protocol
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.windows.protocol import Roster, everybody, folds


def evaluation(protocol, **more):
    return EvaluationConfig(name="e", protocol=protocol, test=0.2, validation=0.16, **more)


def roster(stays=200, subjects=120, sites=("north", "south"), seed=0):
    rng = np.random.default_rng(seed)
    subject = rng.integers(0, subjects, stays)
    return Roster(
        subject, rng.random(stays) < 0.2, rng.permutation(stays) * 10, rng.choice(sites, stays)
    )


def shuffled(held, seed):
    order = np.random.default_rng(seed).permutation(len(held.subject))
    return Roster(
        held.subject[order], held.has_event[order], held.admitted[order], held.site[order]
    )


@pytest.mark.parametrize("protocol", list(Protocol))
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_parts_are_disjoint_whole_and_independent_of_row_order(protocol, seed):
    held, chosen = roster(seed=seed), evaluation(protocol, folds=4, repeats=2)
    made = folds(held, chosen, seed)
    for fold in made:
        every = np.concatenate([fold.split.train, fold.split.valid, fold.split.test])
        assert sorted(every.tolist()) == sorted(set(held.subject.tolist()))
    again = folds(shuffled(held, seed), chosen, seed)
    assert [f.split.fingerprint for f in made] == [f.split.fingerprint for f in again]


@given(st.integers(0, 1000), st.integers(2, 7), st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_every_subject_is_held_out_once_in_each_repeat(seed, k, repeats):
    held = roster(seed=seed)
    made = folds(held, evaluation(Protocol.cross_validation, folds=k, repeats=repeats), seed)
    assert [(f.repeat, f.fold) for f in made] == [(r, f) for r in range(repeats) for f in range(k)]
    for repeat in range(repeats):
        tested = np.concatenate([f.split.test for f in made if f.repeat == repeat])
        assert sorted(tested.tolist()) == sorted(set(held.subject.tolist()))
    assert len({f.split.fingerprint for f in made}) == len(made)


def test_those_with_the_event_are_shared_out_evenly():
    held = Roster(np.arange(100), np.arange(100) < 20, np.arange(100), np.full(100, "a"))
    made = folds(held, evaluation(Protocol.cross_validation, folds=5), 1)
    assert [int((f.split.test < 20).sum()) for f in made] == [4] * 5
    assert [len(f.split.test) for f in made] == [20] * 5


def test_temporal_holds_out_the_latest_and_trains_on_nothing_later():
    held = roster()
    split = folds(held, evaluation(Protocol.temporal), 1)[0].split
    last = {s: held.admitted[held.subject == s].max() for s in set(held.subject.tolist())}
    assert max(last[s] for s in split.train) < min(last[s] for s in split.valid)
    assert max(last[s] for s in split.valid) < min(last[s] for s in split.test)


def test_a_named_site_is_held_out_with_everybody_who_was_ever_there():
    held = roster()
    split = folds(held, evaluation(Protocol.site, sites=("south",)), 1)[0].split
    assert set(split.test.tolist()) == set(held.subject[held.site == "south"].tolist())


def test_without_names_each_subject_is_held_out_at_the_site_that_it_came_to_first():
    held = roster(sites=("north", "south", "west"))
    made = folds(held, evaluation(Protocol.site), 1)
    assert [f.name for f in made] == ["north", "south", "west"]
    assert sorted(np.concatenate([f.split.test for f in made]).tolist()) == sorted(
        set(held.subject.tolist())
    )
    for fold in made:
        for subject in fold.split.test:
            stays = held.subject == subject
            assert held.site[stays][held.admitted[stays].argmin()] == fold.name


def test_nobody_is_held_out_for_the_model_in_service():
    split = everybody(roster(), evaluation(Protocol.cross_validation), 1)
    assert len(split.test) == 0
    assert len(split.valid) > 0


def test_an_unknown_site_and_a_single_one_are_refused():
    with pytest.raises(UsageError, match="sout"):
        folds(roster(), evaluation(Protocol.site, sites=("sout",)), 1)
    with pytest.raises(UsageError, match="two sites"):
        folds(roster(sites=("north",)), evaluation(Protocol.site), 1)


def test_too_few_subjects_for_the_folds():
    tiny = Roster(np.arange(2), np.array([True, False]), np.arange(2), np.full(2, "a"))
    with pytest.raises(CheckFailed, match="2 subjects"):
        folds(tiny, evaluation(Protocol.cross_validation), 1)
