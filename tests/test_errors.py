"""Errors show their three parts and can be pickled."""

from __future__ import annotations

import pickle

from flowsheet.errors import CheckFailed, did_you_mean


def test_an_error_shows_what_where_and_what_to_do():
    error = CheckFailed("the file is empty", where="a.csv", todo="write the header")
    assert str(error) == "the file is empty\n  where: a.csv\n  do:    write the header"
    assert str(CheckFailed("the file is empty")) == "the file is empty"


def test_an_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(CheckFailed("a", "b", "c")))  # noqa: S301
    assert (error.what, error.where, error.todo) == ("a", "b", "c")


def test_without_a_similar_word_all_are_listed():
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("zzz", []) == "none are known"
