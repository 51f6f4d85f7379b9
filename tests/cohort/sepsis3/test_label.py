"""The label agrees with the reference on random records, and counts what it used."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3.cases import DEFAULT, healthy_record, septic_record
from tests.cohort.sepsis3.records import Record, at, label_and_compare, label_records
from tests.cohort.sepsis3.strategies import options as random_options
from tests.cohort.sepsis3.strategies import records, unstable_records


@settings(deadline=None)
@given(records(), unstable_records(stay_id=2), random_options)
def test_every_hour_suspicion_and_episode_is_as_in_the_reference(record, unstable, options):
    label_and_compare([record, unstable], options)


def test_a_record_with_every_kind_of_fact_has_an_episode():
    record = Record(hours=300).chart_every("map", 1, 0.5, 40, 80)
    record.chart_every("urine", 2, 1, 300, 100).infuse("norepinephrine", 41, 60, 0.2)
    record.chart("gcs", 3, 15).chart("crea", 5, 0.9).chart("plt", 6, 200)
    for time in (20, 28, 36, 44, 52):
        record.give("vancomycin", time)
    record.take_culture(30)
    labels = label_and_compare([record], Sepsis3Options())
    assert labels.episodes["onset"].to_list() == [at(41)]


def test_counts_add_up_over_batches():
    records = [septic_record(last_dose=102), healthy_record()]
    records[1].stay["stay_id"] = 2
    counts = label_and_compare(records, DEFAULT).counts
    first, second = (label_and_compare([record], DEFAULT).counts for record in records)
    assert counts == {name: first[name] + second[name] for name in counts}
    assert counts["septic days"] == 6  # hour 31 to hour 154: days 2 to 7
    assert counts["stays with an episode"] == 1


def test_without_stays_there_are_no_labels():
    labels = label_and_compare([], DEFAULT)
    assert labels.episodes.is_empty()
    assert set(labels.counts.values()) == {0}


def test_a_stay_is_labelled_alone_as_among_others():
    record, other = healthy_record(), septic_record(last_dose=102)
    other.stay["stay_id"] = 9
    alone = label_and_compare([record], DEFAULT)
    together = label_and_compare([record, other], DEFAULT)
    assert together.sofa.filter(stay_id=1).equals(alone.sofa)


@settings(deadline=None, max_examples=20)
@given(records(), unstable_records(stay_id=2), random_options, st.sampled_from(["sofa", "sofa2"]))
def test_no_stay_changes_the_label_of_another(record, unstable, options, score):
    options = options.model_copy(update={"score": score})
    together = label_records([unstable, record], options)
    for n, alone in ((1, record), (2, unstable)):
        labels = label_records([alone], options)
        for table in ("sofa", "suspicions", "episodes"):
            assert getattr(together, table).filter(stay_id=n).equals(getattr(labels, table))
