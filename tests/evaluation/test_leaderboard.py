"""The leaderboard as text."""

import pytest

from flowsheet.evaluation.evidence import evaluate
from flowsheet.evaluation.leaderboard import make_leaderboard_table, render_leaderboard_markdown
from tests.evaluation.conftest import CONFIG


@pytest.fixture(scope="module")
def evidence(sequences, predictions):
    return evaluate(sequences, predictions, CONFIG, seed=1)


def test_the_table_begins_with_the_ranking_metric(evidence):
    head, *rows = make_leaderboard_table(evidence)
    assert head[:3] == ["model", "AUROC", "AUROC within step"]
    assert [row[0] for row in rows] == evidence.models


def test_markdown_begins_with_the_headline_and_explains_the_intervals(evidence):
    text = render_leaderboard_markdown(evidence)
    assert text.startswith(evidence.headline)
    assert "| model | AUROC |" in text
    assert "**New onsets (patients not septic at prediction)**" in text
    assert "95% intervals from 100 bootstrap resamples" in text
