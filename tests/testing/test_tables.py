from hypothesis import given, settings

from flowsheet.cohort.checks import find_failures
from flowsheet.cohort.schema import Tables
from flowsheet.testing.tables import make_tables, random_tables


@settings(max_examples=30, deadline=None)
@given(random_tables())
def test_random_tables_keep_the_contract(tables: Tables):
    assert find_failures(vars(tables)).rows() == []


def test_hand_made_tables_keep_the_contract():
    tables = make_tables(
        [{"stay_id": 1, "discharged_at": 10}],
        [{"stay_id": 1, "time": 1, "variable": "hr", "value": 80.0}],
        [{"stay_id": 1, "drug": "vancomycin", "start": 1, "end": 1}],
        [{"stay_id": 1, "onset": 3}],
    )
    assert find_failures(vars(tables)).rows() == []
