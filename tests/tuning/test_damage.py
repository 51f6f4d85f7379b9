"""Bytes of an unfinished search that were changed are noticed; they never become a result."""

from __future__ import annotations

import re

import pytest

from flowsheet.config import ModelConfig
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.tuning.study import tune


class Killed(BaseException):
    pass


@pytest.fixture
def search(toy, tmp_path):
    """Runs a search of twelve trials; ``kill_after`` ends it after so many."""

    def run(folder=tmp_path / "work", kill_after=None):
        lines, seen = [], []

        def on_trial(record):
            seen.append(record.number)
            if record.number + 1 == kill_after:
                raise Killed

        data = toy.sequences()
        tuned = tune(
            "toy",
            ModelConfig(kind="toy"),
            toy.TUNING,
            data,
            data,
            seed=5,
            score=toy.mean_probability,
            folder=folder,
            on_trial=on_trial,
            progress=lines.append,
        )
        return [trial.result() for trial in tuned.trials], lines

    return run


def interrupt(search, tmp_path):
    with pytest.raises(Killed):
        search(kill_after=6)
    (journal,) = (tmp_path / "work").rglob("study.journal")
    return journal


def swap_digit(text: bytes) -> bytes:
    """Another score of a finished trial."""
    return re.sub(rb'("values":\[0\.)\d', rb"\g<1>123", text, count=1)


@pytest.mark.parametrize(
    "damage",
    [
        swap_digit,
        lambda text: text.replace(b"\n", b"\x00", 1),
        lambda text: b"".join(text.splitlines(keepends=True)[1:]),
        lambda text: b"".join(sorted(text.splitlines(keepends=True))),
        lambda text: text[: len(text) // 2] + b"\xff\n" + text[len(text) // 2 :],
        lambda text: re.sub(rb',"sha256":"[0-9a-f]+"', b"", text),
    ],
    ids=["a score", "a byte", "no first line", "another order", "not UTF-8", "no checksums"],
)
def test_a_changed_journal_begins_anew_in_words(search, tmp_path, damage):
    journal = interrupt(search, tmp_path)
    text = journal.read_bytes()
    changed = damage(text)
    assert changed != text
    journal.write_bytes(changed)
    trials, lines = search()
    assert "journal of the unfinished search was changed" in lines[0]
    assert trials == search(tmp_path / "other")[0]


def test_an_unchanged_journal_is_resumed(search, tmp_path):
    interrupt(search, tmp_path)
    trials, lines = search()
    assert lines[0] == "resuming after 6 of 12 trials"
    assert trials == search(tmp_path / "other")[0]


def test_a_journal_that_lost_its_end_is_resumed_from_there(search, tmp_path):
    journal = interrupt(search, tmp_path)
    journal.write_bytes(journal.read_bytes()[:-40])
    assert search()[0] == search(tmp_path / "other")[0]


def test_a_changed_model_of_the_best_trial_is_refused(search, tmp_path):
    search()
    (params,) = (tmp_path / "work").rglob("params.json")
    params.write_text(params.read_text(encoding="utf-8").replace("0.", "0.9", 1), encoding="utf-8")
    with pytest.raises(FlowsheetError, match="best trial is not as it was saved") as caught:
        search()
    assert not isinstance(caught.value, CheckFailed)  # as which the model would be left out
