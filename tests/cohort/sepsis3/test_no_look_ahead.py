"""What is known by a time does not depend on facts that reach the record later."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cohort.sepsis3.records import Record, label_records
from tests.cohort.sepsis3.strategies import VALUES, delays, hours, options, unstable_records

DAY = timedelta(days=1)
TABLES = ("events", "treatments", "antibiotics", "cultures")


def known_at(fact):
    if fact.get("date_only"):
        return max(fact["known_at"], fact["time"] + DAY)
    return fact["known_at"]


def change_future(draw, facts, now):
    """The facts that are known by now, and some of the later ones, changed."""
    changed = []
    for fact in facts:
        if known_at(fact) <= now:
            if "end" in fact and fact["end"] > now:  # a later end is not known yet either
                fact["end"] += draw(st.sampled_from([0, 1, 3])) * DAY
            changed.append(fact)
        elif draw(st.booleans()):
            if "value" in fact:
                fact["value"] = float(draw(st.sampled_from(VALUES[fact["variable"]])))
            if "dose" in fact and fact["dose"] is not None:
                fact["dose"] *= 100
            if "specimen" in fact:
                fact["specimen"] = "BLOOD CULTURE"
            changed.append(fact)
    return changed


def add_future(draw, record, now):
    """Add new facts that become known after now."""
    new = Record()
    for _ in range(draw(st.integers(0, 4))):
        name, time = draw(st.sampled_from(sorted(VALUES))), draw(hours)
        new.chart(name, time, draw(st.sampled_from(VALUES[name])), draw(delays))
    new.take_culture(draw(hours), draw(delays))
    new.give("meropenem", draw(hours), delay=draw(delays))
    start, end = sorted([draw(hours), draw(hours)])
    new.infuse("norepinephrine", start, end, 0.2, draw(delays))
    charted = {(event["variable"], event["time"]) for event in record.events}
    new.events = [e for e in new.events if (e["variable"], e["time"]) not in charted]
    for table in TABLES:
        facts = getattr(new, table)
        getattr(record, table).extend(fact for fact in facts if fact["known_at"] > now)


@st.composite
def two_futures(draw):
    """(record, the same record with another future, now)."""
    record = draw(unstable_records())
    facts = [fact for table in TABLES for fact in getattr(record, table)]
    now = draw(st.sampled_from(sorted({known_at(fact) for fact in facts}))) - timedelta(minutes=1)
    other = deepcopy(record)
    for table in TABLES:
        setattr(other, table, change_future(draw, getattr(other, table), now))
    if not draw(st.booleans()):
        add_future(draw, other, now)
    return record, other, now


def known_labels(record, options, now):
    """The part of the label that is known by now."""
    labels = label_records([record], options)
    known_from = labels.sofa["time"].dt.offset_by(f"{options.charting_delay_hours:.0f}h")
    hours = labels.sofa.filter(known_from <= now).rows()
    episodes = [row for row in labels.episodes.rows(named=True) if row["known_at"] <= now]
    onsets = [(row["onset"], row["known_at"]) for row in episodes]
    ends = [row["end"] for row in episodes]
    return hours, onsets, [end if end is not None and end <= now else None for end in ends]


@settings(deadline=None)
@given(two_futures(), options)
def test_later_facts_change_nothing_that_is_known_now(futures, options):
    record, other, now = futures
    assert known_labels(record, options, now) == known_labels(other, options, now)


@settings(deadline=None)
@given(two_futures(), options)
def test_later_facts_change_nothing_by_sofa2_either(futures, options):
    record, other, now = futures
    by_sofa2 = options.model_copy(update={"score": "sofa2"})
    assert known_labels(record, by_sofa2, now) == known_labels(other, by_sofa2, now)
