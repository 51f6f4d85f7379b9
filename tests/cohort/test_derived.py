"""Derived variables: vasopressors together, urine by weight, and the fluid balance."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort import catalogue
from flowsheet.cohort.derived import _merge, add_derived, derivable_variables
from flowsheet.cohort.schema import EVENTS, SORT_KEYS
from tests.cohort.sepsis3.records import ADMITTED, Record, at, make_tables
from tests.cohort.sepsis3.test_no_look_ahead import two_futures


def derive(record: Record) -> pl.DataFrame:
    events = add_derived(*make_tables([record])[:3])
    kinds = {name: variable.kind for name, variable in catalogue.variables().items()}
    is_derived = events["variable"].replace_strict(kinds) == "derived"
    derived = events.filter(is_derived)
    assert derived.is_empty() or events.equals(events.sort(SORT_KEYS["events"]))
    return derived


def by_hour(record: Record, variable: str) -> dict[float, float]:
    """The values by hours after admission."""
    rows = derive(record).filter(variable=variable)
    assert ((rows["known_at"] - rows["time"]).dt.total_minutes() == 60).all()
    hours = (rows["time"] - ADMITTED).dt.total_minutes() / 60
    return dict(zip(hours, rows["value"], strict=True))


def fluid(record: Record, drug: str, start: float, end: float, dose: float, delay: float = 0):
    """A dose in mL, or an infusion in mL per hour."""
    times = {"start": at(start), "end": at(end), "known_at": at(start + delay)}
    record.treatments.append({"drug": drug, **times, "dose": dose, "unit": "mL"})
    return record


def test_vasopressors_are_added_by_their_equivalents_while_they_run():
    record = Record(9).infuse("norepinephrine", 1.5, 4, 0.2).infuse("phenylephrine", 2.5, 5, 1.0)
    record.treatments.append(
        {
            "drug": "vasopressin",
            "start": at(3.5),
            "end": at(6),
            "known_at": at(3.5),
            "dose": 2.4,  # 0.04 U/min
            "unit": "U",
        }
    )
    assert by_hour(record, "norepinephrine_equivalents") == {
        2: 0.2,
        3: 0.3,
        4: 0.2,
        5: 0.1,
        6: 0.0,
    }


def test_a_vasopressor_with_an_unknown_dose_leaves_no_value_and_a_late_one_counts_when_known():
    record = Record(9).infuse("norepinephrine", 1, 4, 0.2).infuse("dopamine", 2, 3, None)
    assert by_hour(record, "norepinephrine_equivalents") == {1: 0.2, 3: 0.2, 4: 0.0}
    late = Record(9).infuse("norepinephrine", 1, 6, 0.2, delay=3.5)
    assert by_hour(late, "norepinephrine_equivalents") == {4: 0.2, 5: 0.2, 6: 0.0}


def test_urine_is_given_by_weight_over_the_readings_that_cover_the_hours():
    record = Record(30).chart("weight", 0, 50).chart_every("urine", 3, 3, 28, 150)
    record.chart("weight", 20, 100)
    six = by_hour(record, "urine_rate_6h")
    assert six == {**dict.fromkeys((6, 9, 12, 15, 18), 1.0), 21: 0.5, 24: 0.5, 27: 0.5}
    assert by_hour(record, "urine_rate_24h") == {24: 0.5, 27: 0.5}
    without_weight = Record(30).chart_every("urine", 3, 3, 28, 150)
    assert not by_hour(without_weight, "urine_rate_6h")


def test_readings_that_cover_twice_the_hours_or_less_urine_than_irrigant_give_no_rate():
    record = Record(40).chart("weight", 0, 50).chart("urine", 1, 50).chart("urine", 14, 0)
    assert not by_hour(record, "urine_rate_6h")
    assert by_hour(record, "urine_rate_12h") == {14: 0.0}
    record.chart("urine", 20, 100).chart("bladder_irrigant", 19, 200)
    assert not by_hour(record, "urine_rate_6h")


def test_the_fluid_balance_is_what_was_given_less_what_went_out_in_a_day():
    record = Record(34).chart("urine", 4, 300).chart("other_output", 5, 100)
    record.chart("urine", 30, 600).chart("bladder_irrigant", 29, 500)
    fluid(record, "crystalloid", 2, 6, 250)
    fluid(record, "nutrition", 8, 8, 40)
    fluid(record, "red_cells", 9, 9, 300, delay=4)
    balance = by_hour(record, "fluid_balance")
    assert min(balance) == 4  # both are charted
    assert [balance[hour] for hour in (4, 5, 6, 7, 8)] == [200, 350, 600, 600, 640]
    assert [balance[hour] for hour in (11, 12, 13)] == [640, 940, 940]
    # (4, 28] h: half of the fluid, no urine of the fourth hour; (6, 30] h: none of the first.
    assert balance[28] == 500 + 340 - 100
    assert balance[30] == 340 - 100
    assert list(balance) == sorted(balance)


def test_what_is_derived_needs_its_inputs():
    assert derivable_variables(["urine"], ["crystalloid"]) == ("fluid_balance",)
    assert derivable_variables(["hr"], ["vancomycin"]) == ()
    assert derive(Record(5)).is_empty()


def test_the_equivalents_are_of_vasopressors_in_the_catalogue():
    drugs = catalogue.vasopressor_equivalents()["drug"].to_list()
    assert {catalogue.drug(name).group for name in drugs} == {"vasopressor"}
    assert catalogue.drug("vasopressin").unit == "U"
    others = [catalogue.drug(name).unit for name in drugs if name != "vasopressin"]
    assert set(others) == {"mcg/kg"}


@settings(deadline=None, max_examples=30)
@given(two_futures())
def test_later_facts_change_no_derived_value_that_is_known_now(futures):
    record, other, now = futures
    for each in (record, other):
        each.events.append(
            {"variable": "weight", "time": at(0.01), "known_at": at(0.01), "value": 70.0}
        )
        fluid(each, "crystalloid", 3, 30, 100)
    known = [derive(each).filter(pl.col("known_at") <= now) for each in (record, other)]
    assert known[0].equals(known[1])


def make_rows(variables: list[str]) -> st.SearchStrategy[pl.DataFrame]:
    """Events in the contract's order, without repeats; some times have fractions of a second."""
    key = st.tuples(
        st.sampled_from([-4, 7, 2**53]),
        st.sampled_from([0, 1, 999_999, 3_000_000, 3_600_000_000, 2**52]),
        st.sampled_from(variables),
    )

    def build(keys: list[tuple[int, int, str]]) -> pl.DataFrame:
        numbers = {"stay_id": pl.Int64, "time": pl.Int64, "variable": pl.String}
        rows = pl.DataFrame(sorted(keys), schema=numbers, orient="row")
        rows = rows.with_columns(known_at="time", value=pl.int_range(pl.len()))
        return rows.select(list(EVENTS)).cast(pl.Schema(EVENTS))

    return st.lists(key, unique=True, min_size=1).map(build)


@given(make_rows(["hr", "map", "urine"]), make_rows(["fluid_balance", "urine_rate_6h"]))
@settings(max_examples=60, deadline=None)
def test_derived_rows_are_merged_in_the_contracts_order(
    events: pl.DataFrame, derived: pl.DataFrame
) -> None:
    expected = pl.concat([events, derived]).sort(SORT_KEYS["events"])
    assert _merge(events, derived).equals(expected)
