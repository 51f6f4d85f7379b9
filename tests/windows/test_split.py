import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.config import EvaluationConfig
from flowsheet.errors import CheckFailed
from flowsheet.state.json_files import read_json, write_json
from flowsheet.windows.split import Split, make_split

HOLDOUT = EvaluationConfig(name="holdout", test=0.2, validation=0.16)
cohorts = st.dictionaries(st.integers(-(2**40), 2**40), st.booleans(), min_size=3, max_size=200)


def split_cohort(cohort, seed=1, evaluation=HOLDOUT):
    subjects = np.array(list(cohort))
    has_event = np.array(list(cohort.values()))
    return make_split(subjects, has_event, evaluation, seed)


def parts_of(split):
    return [set(split.train.tolist()), set(split.valid.tolist()), set(split.test.tolist())]


@settings(deadline=None)
@given(cohorts, st.integers(0, 2**31))
def test_every_subject_is_in_exactly_one_part(cohort, seed):
    parts = parts_of(split_cohort(cohort, seed))
    assert sum(map(len, parts)) == len(cohort)
    assert set.union(*parts) == set(cohort)
    assert all(parts)


@settings(deadline=None)
@given(cohorts, st.randoms())
def test_the_order_of_subjects_does_not_matter(cohort, random):
    items = list(cohort.items())
    random.shuffle(items)
    assert split_cohort(cohort).fingerprint == split_cohort(dict(items)).fingerprint


@settings(deadline=None)
@given(cohorts, st.integers(2**41, 2**42))
def test_a_new_subject_in_one_group_does_not_move_subjects_of_the_other(cohort, new_subject):
    # large enough for every part to get subjects of both groups
    cohort = cohort | {-(2**41) - i: i % 2 == 0 for i in range(40)}
    with_event = {subject for subject, has_event in cohort.items() if has_event}
    before = parts_of(split_cohort(cohort))
    after = parts_of(split_cohort({**cohort, new_subject: False}))
    assert [part & with_event for part in before] == [part & with_event for part in after]


def test_the_shares_are_equal_for_subjects_with_and_without_the_event():
    cohort = {subject: subject % 10 == 0 for subject in range(1000)}
    parts = parts_of(split_cohort(cohort))
    assert [len(part) for part in parts] == [640, 160, 200]
    assert [sum(cohort[subject] for subject in part) for part in parts] == [64, 16, 20]


def test_another_seed_gives_another_split():
    cohort = {subject: subject % 10 == 0 for subject in range(1000)}
    one = split_cohort(cohort, seed=1)
    other = split_cohort(cohort, seed=2)
    assert one.fingerprint != other.fingerprint
    in_both = np.intersect1d(one.test, other.test)
    assert len(in_both) < 80  # about 40 by chance


def test_a_subject_with_the_event_in_one_stay_counts_as_one_with_the_event():
    by_subject = make_split(np.arange(20), np.arange(20) % 4 == 0, HOLDOUT, 1)
    by_stay = make_split(np.repeat(np.arange(20), 2), np.arange(40) % 8 == 1, HOLDOUT, 1)
    assert by_subject.fingerprint == by_stay.fingerprint


FROZEN = [4, 11, 15, 21, 26, 27, 38, 46, 49, 50, 52, 55, 57, 60, 68, 69, 70, 71, 80, 96]


def test_the_split_is_the_same_in_another_process_and_in_other_versions():
    code = (
        "import numpy as np; from flowsheet.config import EvaluationConfig;"
        "from flowsheet.windows.split import make_split;"
        "e = EvaluationConfig(name='holdout', test=0.2, validation=0.16);"
        "print(make_split(np.arange(100), np.arange(100) % 7 == 0, e, 3).test.tolist())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    here = make_split(np.arange(100), np.arange(100) % 7 == 0, HOLDOUT, 3).test.tolist()
    assert other.strip() == str(here)
    assert here == FROZEN


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_cohort_with_too_few_subjects_is_refused(n):
    with pytest.raises(CheckFailed, match=f"{n} subjects cannot be split"):
        split_cohort(dict.fromkeys(range(n), True))


def test_shares_that_leave_no_training_subject_are_refused():
    evaluation = EvaluationConfig(name="e", test=0.9, validation=0.5)
    with pytest.raises(CheckFailed, match="smaller shares"):
        split_cohort(dict.fromkeys(range(10), False), evaluation=evaluation)


def test_a_saved_split_is_loaded_unchanged(tmp_path):
    split = split_cohort({subject: subject % 3 == 0 for subject in range(30)})
    split.save(tmp_path / "split.json")
    loaded = Split.load(tmp_path / "split.json")
    assert parts_of(loaded) == parts_of(split)
    assert loaded.fingerprint == split.fingerprint


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "split.json"
    split_cohort({subject: subject % 3 == 0 for subject in range(30)}).save(path)
    content = read_json(path)
    content["train"].append(content["test"].pop())
    write_json(path, content)
    with pytest.raises(CheckFailed, match="changed after it was frozen"):
        Split.load(path)
