import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.config import EvaluationConfig, Protocol
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.windows.protocol import FoldId, SubjectTable, make_folds, train_on_all


def evaluation(protocol, **options):
    return EvaluationConfig(name="e", protocol=protocol, test=0.2, validation=0.16, **options)


def make_table(stays=200, subjects=120, sites=("north", "south"), seed=0):
    rng = np.random.default_rng(seed)
    subject = rng.integers(0, subjects, stays)
    return SubjectTable(
        subject, rng.random(stays) < 0.2, rng.permutation(stays) * 10, rng.choice(sites, stays)
    )


def shuffle(table, seed):
    order = np.random.default_rng(seed).permutation(len(table.subject))
    return SubjectTable(
        table.subject[order], table.has_event[order], table.admitted[order], table.site[order]
    )


def distinct_subjects(table):
    return sorted(set(table.subject.tolist()))


@pytest.mark.parametrize("protocol", list(Protocol))
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_parts_are_disjoint_complete_and_independent_of_row_order(protocol, seed):
    table = make_table(seed=seed)
    config = evaluation(protocol, folds=4, repeats=2)
    folds = make_folds(table, config, seed)
    for fold in folds:
        subjects = np.concatenate([fold.split.train, fold.split.valid, fold.split.test])
        assert sorted(subjects.tolist()) == distinct_subjects(table)
    shuffled = make_folds(shuffle(table, seed), config, seed)
    assert [f.split.fingerprint for f in folds] == [f.split.fingerprint for f in shuffled]


@given(st.integers(0, 1000), st.integers(2, 7), st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_every_subject_is_held_out_once_in_each_repeat(seed, k, repeats):
    table = make_table(seed=seed)
    config = evaluation(Protocol.cross_validation, folds=k, repeats=repeats)
    folds = make_folds(table, config, seed)
    assert [f.id for f in folds] == [
        FoldId(f"{repeat + 1}.{fold + 1}", repeat, fold)
        for repeat in range(repeats)
        for fold in range(k)
    ]
    for repeat in range(repeats):
        tested = np.concatenate([f.split.test for f in folds if f.id.repeat == repeat])
        assert sorted(tested.tolist()) == distinct_subjects(table)
    assert len({f.split.fingerprint for f in folds}) == len(folds)


def test_subjects_with_the_event_are_spread_evenly_over_the_folds():
    table = SubjectTable(np.arange(100), np.arange(100) < 20, np.arange(100), np.full(100, "a"))
    folds = make_folds(table, evaluation(Protocol.cross_validation, folds=5), 1)
    assert [int((f.split.test < 20).sum()) for f in folds] == [4] * 5
    assert [len(f.split.test) for f in folds] == [20] * 5


def test_the_temporal_protocol_trains_on_no_stay_after_the_test_subjects():
    table = make_table()
    split = make_folds(table, evaluation(Protocol.temporal), 1)[0].split
    last = {s: table.admitted[table.subject == s].max() for s in distinct_subjects(table)}
    assert max(last[s] for s in split.train) < min(last[s] for s in split.valid)
    assert max(last[s] for s in split.valid) < min(last[s] for s in split.test)


def test_a_declared_site_is_held_out_with_every_subject_who_was_ever_there():
    table = make_table()
    split = make_folds(table, evaluation(Protocol.site, sites=("south",)), 1)[0].split
    assert set(split.test.tolist()) == set(table.subject[table.site == "south"].tolist())


def test_without_declared_sites_each_subject_is_held_out_at_the_site_of_its_first_stay():
    table = make_table(sites=("north", "south", "west"))
    folds = make_folds(table, evaluation(Protocol.site), 1)
    assert [f.id.name for f in folds] == ["north", "south", "west"]
    tested = np.concatenate([f.split.test for f in folds])
    assert sorted(tested.tolist()) == distinct_subjects(table)
    for fold in folds:
        for subject in fold.split.test:
            stays = table.subject == subject
            assert table.site[stays][table.admitted[stays].argmin()] == fold.id.name


def test_the_final_refit_trains_on_all_subjects():
    split = train_on_all(make_table(), evaluation(Protocol.cross_validation), 1)
    assert len(split.test) == 0
    assert len(split.valid) > 0


def test_an_unknown_site_and_a_single_site_are_refused():
    with pytest.raises(UsageError, match="sout"):
        make_folds(make_table(), evaluation(Protocol.site, sites=("sout",)), 1)
    with pytest.raises(UsageError, match="two sites"):
        make_folds(make_table(sites=("north",)), evaluation(Protocol.site), 1)


def test_a_cohort_with_fewer_subjects_than_folds_is_refused():
    tiny = SubjectTable(np.arange(2), np.array([True, False]), np.arange(2), np.full(2, "a"))
    with pytest.raises(CheckFailed, match="2 subjects"):
        make_folds(tiny, evaluation(Protocol.cross_validation), 1)
