"""Messages that name subjects or stays."""

from __future__ import annotations

import pytest

from flowsheet.lifecycle.erasure.messages import mask_ids, mentions
from flowsheet.lifecycle.erasure.tables import Ids
from flowsheet.lifecycle.outcomes.judged_rows import UnjudgedAnswers


@pytest.mark.parametrize("stay", [17, 19, 21])
def test_every_stay_that_answers_name_is_found_and_masked(tmp_path, stay):
    unjudged = UnjudgedAnswers(reason="a reason", answers=9, stays=4, first_stays=(17, 19, 21))
    report = tmp_path / "report.html"
    report.write_text(f"<li>{unjudged.summary}</li>", encoding="utf-8")
    ids = Ids(frozenset(), frozenset({stay}))
    assert mentions(report, ids)
    assert mask_ids(unjudged.summary, ids) == unjudged.summary.replace(str(stay), "[erased]")
    others = Ids(frozenset({stay}), frozenset({1, 9}))
    assert not mentions(report, others)
    assert mask_ids(unjudged.summary, others) == unjudged.summary
