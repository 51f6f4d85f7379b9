"""The label agrees with a second computation, hour by hour, on records drawn at random."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3_cases import Record, agree, at

VALUES = {
    "map": [55, 69.5, 70, 90],
    "gcs": [3, 6, 10, 13, 15],
    "egcs": [1, 4],
    "mgcs": [1, 6],
    "vgcs": [1, 5],
    "po2": [55, 80, 120],
    "fio2": [21, 40, 100],
    "vent": [0, 1],
    "bili": [0.5, 1.2, 2, 7, 12],
    "crea": [0.9, 1.2, 2.5, 5],
    "plt": [15, 40, 99, 150, 300],
    "urine": [5, 30, 125, 600],
}
quarter = st.integers(-40, 4 * 110).map(lambda n: n / 4)
late = st.sampled_from([0.0, 0.0, 1.0, 4.0, 4.25, 9.0])


@st.composite
def records(draw, stay_id=1):
    record = Record(hours=draw(st.sampled_from([5.5, 48.0, 100.25])), stay_id=stay_id)
    seen = set()
    for name, time in draw(
        st.lists(st.tuples(st.sampled_from(sorted(VALUES)), quarter), max_size=40)
    ):
        if (name, time) not in seen:
            record.chart(name, time, draw(st.sampled_from(VALUES[name])), draw(late))
            seen.add((name, time))
    if not seen and draw(st.booleans()):
        record.every(
            "urine", draw(st.sampled_from([1.0, 3.0])), draw(st.sampled_from([1.0, 7.0])), 60, 15
        )
    if not seen and draw(st.booleans()):
        begin = draw(st.sampled_from([0.0, 20.0]))
        record.every("map", 1.0, begin, begin + 50, draw(st.sampled_from([60, 80])))
    for _ in range(draw(st.integers(0, 2))):
        drug = draw(st.sampled_from(["norepinephrine", "dopamine", "dobutamine", "vasopressin"]))
        start, rate = draw(quarter), draw(st.sampled_from([None, 0.0, 0.1, 0.11, 5.0, 16.0]))
        record.run(drug, start, start + draw(st.sampled_from([0.0, 2.5, 30.0])), rate, draw(late))
    for _ in range(draw(st.integers(0, 4))):
        drug = draw(st.sampled_from(["vancomycin", "vancomycin", "cefazolin", "fluconazole"]))
        route = draw(st.sampled_from([None, "intravenous", "eye"]))
        if draw(st.booleans()):
            record.order(drug, draw(quarter), draw(st.integers(1, 4)), route)
        else:
            time = draw(quarter)
            record.dose(
                drug, time, time + draw(st.sampled_from([0.0, 1.0, 60.0])), draw(late), route
            )
    for _ in range(draw(st.integers(0, 3))):
        specimen = draw(st.sampled_from(["BLOOD CULTURE", "URINE", "MRSA SCREEN"]))
        record.culture(draw(quarter), draw(late), specimen, draw(st.booleans()))
    return record


@st.composite
def busy(draw, stay_id=1):
    """Suspected of infection, treated for some days, unstable: the kind of record that has episodes."""
    record = draw(records(stay_id=stay_id))
    record.stay["discharged_at"] = at(draw(st.sampled_from([100.25, 200.0])))
    time = draw(quarter)
    for _ in range(draw(st.integers(2, 6))):
        record.dose("vancomycin", time, late=draw(late))
        time += draw(st.sampled_from([8.0, 12.0, 12.0, 30.0, 60.0]))
    record.culture(time - draw(st.integers(0, 90)), draw(late))
    seen = {(e["variable"], e["time"]) for e in record.events}
    names = ["urine"] * draw(st.integers(0, 30)) + ["fio2", "vent", "po2"] * draw(
        st.integers(0, 12)
    )
    begin = draw(st.sampled_from([0.0, 30.0]))
    for n, name in enumerate(names):
        time = begin + (n if name == "urine" else draw(quarter) / 4)
        if (name, at(time)) not in seen:
            seen.add((name, at(time)))
            record.chart(name, time, draw(st.sampled_from(VALUES[name])), draw(late))
    begin = draw(quarter)
    record.run("norepinephrine", begin, begin + draw(st.sampled_from([3.0, 20.0])), 0.2, draw(late))
    return record


choices = st.builds(
    Sepsis3Options,
    criterion=st.sampled_from(["rise", "rise", "level"]),
    baseline=st.sampled_from(["observed", "presumed_zero"]),
    points=st.sampled_from([1, 2, 2]),
    confirm_after_hours=st.sampled_from([0.0, 12.0]),
    charting_delay_hours=st.sampled_from([0.0, 4.0]),
    end=st.sampled_from(["recovery", "organs", "fixed"]),
    end_antibiotic_free_hours=st.sampled_from([6.0, 48.0]),
    end_days=st.sampled_from([0.5, 2.0]),
    groups=st.sampled_from([("antibiotic",), ("antibiotic", "antifungal")]),
)


@settings(deadline=None)
@given(records(), busy(stay_id=2), choices)
def test_every_hour_suspicion_and_episode_is_as_the_oracle_has_it(one, two, options):
    agree([one, two], options)


def test_the_case_that_uses_everything_has_an_episode():
    record = Record(hours=300).every("map", 1, 0.5, 40, 80).every("urine", 2, 1, 300, 100)
    record.run("norepinephrine", 41, 60, 0.2).chart("gcs", 3, 15).chart("crea", 5, 0.9).chart(
        "plt", 6, 200
    )
    for time in (20, 28, 36, 44, 52):
        record.dose("vancomycin", time)
    record.culture(30)
    got = agree([record], Sepsis3Options())
    assert got.episodes["onset"].to_list() == [at(41)]
