"""The comparison with a model's home speaks of the response of the model's task."""

import polars as pl
import pytest

from flowsheet.cohort.responses.base import find_words
from flowsheet.lifecycle.deployment.home_comparison import describe_prevalence


@pytest.mark.parametrize(
    ("response", "phrase"), [("sepsis", "not yet septic"), ("aki", "not yet in kidney injury")]
)
def test_the_prevalence_is_described_in_the_words_of_the_response(response, phrase):
    board = pl.DataFrame({"subset": ["all", "new_onsets"], "rows": [100, 80], "events": [10, 4]})
    all_rows, new_onsets = describe_prevalence(board, board, find_words(response))
    assert all_rows.summary.startswith("The event follows 10.00% of 100 predictions;")
    assert f"5.00% of 80 predictions of patients {phrase}" in new_onsets.summary
