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


def split(cohort, seed=1, evaluation=HOLDOUT):
    return make_split(np.array(list(cohort)), np.array(list(cohort.values())), evaluation, seed)


def parts(made):
    return [set(made.train.tolist()), set(made.valid.tolist()), set(made.test.tolist())]


@settings(deadline=None)
@given(cohorts, st.integers(0, 2**31))
def test_every_subject_is_in_exactly_one_part(cohort, seed):
    found = parts(split(cohort, seed))
    assert sum(map(len, found)) == len(cohort)
    assert set.union(*found) == set(cohort)
    assert all(found)


@settings(deadline=None)
@given(cohorts, st.randoms())
def test_the_order_of_subjects_does_not_matter(cohort, random):
    items = list(cohort.items())
    random.shuffle(items)
    assert split(cohort).fingerprint == split(dict(items)).fingerprint


@settings(deadline=None)
@given(cohorts, st.integers(2**41, 2**42))
def test_a_subject_who_joins_one_group_moves_nobody_of_the_other(cohort, newcomer):
    cohort = cohort | {
        -(2**41) - i: i % 2 == 0 for i in range(40)
    }  # large enough for both groups to be shared out
    events = {s for s, ever in cohort.items() if ever}
    before, after = parts(split(cohort)), parts(split({**cohort, newcomer: False}))
    assert [part & events for part in before] == [part & events for part in after]


def test_shares_hold_among_those_with_the_event_and_those_without():
    cohort = {s: s % 10 == 0 for s in range(1000)}
    made = split(cohort)
    assert [len(p) for p in parts(made)] == [640, 160, 200]
    assert [sum(cohort[s] for s in p) for p in parts(made)] == [64, 16, 20]


def test_another_seed_is_another_split():
    cohort = {s: s % 10 == 0 for s in range(1000)}
    assert split(cohort, 1).fingerprint != split(cohort, 2).fingerprint
    assert len(parts(split(cohort, 1))[2] & parts(split(cohort, 2))[2]) < 80  # about 40 by chance


def test_stays_of_a_subject_go_together_and_one_event_makes_it_ever():
    by_subject = make_split(np.arange(20), np.arange(20) % 4 == 0, HOLDOUT, 1)
    by_stay = make_split(np.repeat(np.arange(20), 2), np.arange(40) % 8 == 1, HOLDOUT, 1)
    assert by_subject.fingerprint == by_stay.fingerprint


FROZEN = [4, 11, 15, 21, 26, 27, 38, 46, 49, 50, 52, 55, 57, 60, 68, 69, 70, 71, 80, 96]


def test_the_split_is_the_same_in_another_process_and_for_ever():
    code = (
        "import numpy as np; from flowsheet.config import EvaluationConfig;"
        "from flowsheet.windows.split import make_split;"
        "e = EvaluationConfig(name='holdout', test=0.2, validation=0.16);"
        "print(make_split(np.arange(100), np.arange(100) % 7 == 0, e, 3).test.tolist())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    here = make_split(np.arange(100), np.arange(100) % 7 == 0, HOLDOUT, 3).test.tolist()
    assert other.strip() == str(here)
    assert here == FROZEN


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_subjects_are_refused(n):
    with pytest.raises(CheckFailed, match=f"{n} subjects cannot be split"):
        split(dict.fromkeys(range(n), True))


def test_greedy_shares_are_refused():
    with pytest.raises(CheckFailed, match="smaller shares"):
        split(
            dict.fromkeys(range(10), False),
            evaluation=EvaluationConfig(name="e", test=0.9, validation=0.5),
        )


def test_saved_and_loaded(tmp_path):
    made = split({s: s % 3 == 0 for s in range(30)})
    made.save(tmp_path / "split.json")
    loaded = Split.load(tmp_path / "split.json")
    assert parts(loaded) == parts(made)
    assert loaded.fingerprint == made.fingerprint


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "split.json"
    split({s: s % 3 == 0 for s in range(30)}).save(path)
    held = read_json(path)
    held["train"].append(held["test"].pop())
    write_json(path, held)
    with pytest.raises(CheckFailed, match="changed after it was frozen"):
        Split.load(path)
