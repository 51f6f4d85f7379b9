"""No look-ahead: what is known by a time depends on nothing that reached the record later."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cohort.sepsis3_cases import Record, labelled
from tests.cohort.test_sepsis3_oracle import VALUES, busy, choices, late, quarter

DAY = timedelta(days=1)


def known_at(fact):
    return max(fact["known_at"], fact["time"] + DAY) if fact.get("date_only") else fact["known_at"]


def later(draw, facts, now):
    """The facts known by now, and some of those that are known later, changed."""
    kept = []
    for fact in facts:
        if known_at(fact) <= now:
            if "end" in fact and fact["end"] > now:  # when it will end was not known either
                fact["end"] += draw(st.sampled_from([0, 1, 3])) * DAY
            kept.append(fact)
        elif draw(st.booleans()):
            if "value" in fact:
                fact["value"] = float(draw(st.sampled_from(VALUES[fact["variable"]])))
            if "dose" in fact and fact["dose"] is not None:
                fact["dose"] *= 100
            if "specimen" in fact:
                fact["specimen"] = "BLOOD CULTURE"
            kept.append(fact)
    return kept


@st.composite
def two_futures(draw):
    """(record, the same with another future, now)."""
    record = draw(busy())
    facts = [*record.events, *record.treatments, *record.antibiotics, *record.cultures]
    now = draw(st.sampled_from(sorted({known_at(fact) for fact in facts}))) - timedelta(minutes=1)
    other = deepcopy(record)
    for kind in ("events", "treatments", "antibiotics", "cultures"):
        setattr(other, kind, later(draw, getattr(other, kind), now))
    if draw(st.booleans()):
        return record, other, now
    news = Record()
    for _ in range(draw(st.integers(0, 4))):
        name, time = draw(st.sampled_from(sorted(VALUES))), draw(quarter)
        news.chart(name, time, draw(st.sampled_from(VALUES[name])), draw(late))
    news.culture(draw(quarter), draw(late)).dose("meropenem", draw(quarter), late=draw(late))
    news.run("norepinephrine", *sorted([draw(quarter), draw(quarter)]), 0.2, draw(late))
    taken = {(e["variable"], e["time"]) for e in other.events}
    other.events += [
        e for e in news.events if e["known_at"] > now and (e["variable"], e["time"]) not in taken
    ]
    other.treatments += [t for t in news.treatments if t["known_at"] > now]
    other.antibiotics += [a for a in news.antibiotics if a["known_at"] > now]
    other.cultures += [c for c in news.cultures if c["known_at"] > now]
    return record, other, now


def known(record, options, now):
    """What the label says of the past at that time."""
    got = labelled([record], options)
    settled = got.sofa["time"].dt.offset_by(f"{options.charting_delay_hours:.0f}h") <= now
    told = [row for row in got.episodes.rows(named=True) if row["known_at"] <= now]
    over = [row["end"] if row["end"] is not None and row["end"] <= now else None for row in told]
    return got.sofa.filter(settled).rows(), [(row["onset"], row["known_at"]) for row in told], over


@settings(deadline=None)
@given(two_futures(), choices)
def test_what_is_known_later_changes_nothing_that_is_known_now(futures, options):
    one, other, now = futures
    assert known(one, options, now) == known(other, options, now)
