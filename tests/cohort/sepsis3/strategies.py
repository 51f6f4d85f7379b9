"""Hypothesis strategies: random records and options."""

from __future__ import annotations

from hypothesis import strategies as st

from flowsheet.cohort.sepsis3 import Sepsis3Options
from tests.cohort.sepsis3.records import Record, at

VALUES = {
    "map": [55, 69.5, 70, 90],
    "gcs": [3, 6, 10, 13, 15],
    "egcs": [1, 4],
    "mgcs": [1, 6],
    "vgcs": [1, 5],
    "po2": [55, 80, 120],
    "fio2": [21, 40, 100],
    "o2sat": [80, 92, 97, 100],
    "vent": [0, 1],
    "bili": [0.5, 1.2, 2, 7, 12],
    "crea": [0.9, 1.2, 2.5, 5],
    "plt": [15, 40, 99, 150, 300],
    "urine": [5, 30, 125, 600],
    "bladder_irrigant": [20, 500],
    "rrt": [0, 1],
    "weight": [50, 90],
    "k": [4, 6.5],
}
hours = st.integers(-40, 4 * 110).map(lambda n: n / 4)
delays = st.sampled_from([0.0, 0.0, 1.0, 4.0, 4.25, 9.0])


@st.composite
def records(draw, stay_id=1):
    length = draw(st.sampled_from([5.5, 48.0, 100.25]))
    record = Record(length, stay_id, died=draw(st.booleans()))
    arrival = draw(st.sampled_from([None, -30.0, -0.5, 3.0]))
    record.stay["hospital_admitted_at"] = None if arrival is None else at(arrival)
    charted = set()
    variables = st.sampled_from(sorted(VALUES))
    for name, time in draw(st.lists(st.tuples(variables, hours), max_size=40)):
        if (name, time) not in charted:
            record.chart(name, time, draw(st.sampled_from(VALUES[name])), draw(delays))
            charted.add((name, time))
    if not charted and draw(st.booleans()):
        time = draw(st.sampled_from([1.0, 7.0]))
        step = draw(st.sampled_from([1.0, 3.0, 6.0, 16.0]))
        amount = draw(st.sampled_from([15, 400]))
        while time < 80:
            record.chart("urine", time, amount, draw(delays))
            time += step
    if not charted and draw(st.booleans()):
        first = draw(st.sampled_from([0.0, 20.0]))
        record.chart_every("map", 1.0, first, first + 50, draw(st.sampled_from([60, 80])))
    for _ in range(draw(st.integers(0, 2))):
        drug = draw(st.sampled_from(["norepinephrine", "dopamine", "dobutamine", "propofol"]))
        start = draw(hours)
        rate = draw(st.sampled_from([None, 0.0, 0.1, 0.11, 5.0, 16.0]))
        end = start + draw(st.sampled_from([0.0, 2.5, 30.0]))
        record.infuse(drug, start, end, rate, draw(delays))
    for _ in range(draw(st.integers(0, 4))):
        drug = draw(st.sampled_from(["vancomycin", "vancomycin", "cefazolin", "fluconazole"]))
        route = draw(st.sampled_from([None, "intravenous", "eye"]))
        if draw(st.booleans()):
            record.order(drug, draw(hours), draw(st.integers(1, 4)), route)
        else:
            time = draw(hours)
            end = time + draw(st.sampled_from([0.0, 1.0, 60.0]))
            source = draw(st.sampled_from(["prescriptions", "inputevents"]))
            record.give(drug, time, end, draw(delays), route, source)
    for _ in range(draw(st.integers(0, 3))):
        specimen = draw(st.sampled_from(["BLOOD CULTURE", "URINE", "MRSA SCREEN"]))
        record.take_culture(draw(hours), draw(delays), specimen, draw(st.booleans()))
    return record


@st.composite
def unstable_records(draw, stay_id=1):
    """Records that are likely to have episodes: suspected infection, treatment, instability."""
    record = draw(records(stay_id=stay_id))
    end = at(draw(st.sampled_from([100.25, 200.0])))
    record.stay["discharged_at"] = end
    record.stay["died_at"] = end if draw(st.booleans()) else None
    time = draw(hours)
    for _ in range(draw(st.integers(2, 6))):
        record.give("vancomycin", time, delay=draw(delays))
        time += draw(st.sampled_from([8.0, 12.0, 12.0, 30.0, 60.0]))
    record.take_culture(time - draw(st.integers(0, 90)), draw(delays))
    charted = {(event["variable"], event["time"]) for event in record.events}
    names = ["urine"] * draw(st.integers(0, 30))
    names += ["fio2", "vent", "po2"] * draw(st.integers(0, 12))
    first = draw(st.sampled_from([0.0, 30.0]))
    for n, name in enumerate(names):
        time = first + (n if name == "urine" else draw(hours) / 4)
        if (name, at(time)) not in charted:
            charted.add((name, at(time)))
            record.chart(name, time, draw(st.sampled_from(VALUES[name])), draw(delays))
    start = draw(hours)
    end = start + draw(st.sampled_from([3.0, 20.0]))
    record.infuse("norepinephrine", start, end, 0.2, draw(delays))
    return record


options = st.builds(
    Sepsis3Options,
    criterion=st.sampled_from(["rise", "rise", "level"]),
    baseline=st.sampled_from(["observed", "presumed_zero"]),
    points=st.sampled_from([1, 2, 2]),
    antibiotic_course=st.sampled_from(["dose", "order", "start"]),
    date_only_time=st.sampled_from(["day", "midnight", "noon"]),
    charted_doses=st.booleans(),
    antibiotics_in_stay=st.booleans(),
    first_culture_only=st.booleans(),
    first_suspicion_only=st.booleans(),
    missing_score=st.sampled_from(["carry", "zero"]),
    fio2_default=st.sampled_from([None, 21.0]),
    spo2_fio2=st.booleans(),
    vasopressor_min_hours=st.sampled_from([0.0, 1.0, 3.0]),
    gcs_carry_hours=st.sampled_from([0.0, 0.25, 6.0]),
    gcs_missing_parts=st.sampled_from(["unknown", "normal"]),
    rrt_points=st.booleans(),
    end_confirms=st.booleans(),
    confirm_after_hours=st.sampled_from([0.0, 12.0]),
    charting_delay_hours=st.sampled_from([0.0, 4.0]),
    end=st.sampled_from(["recovery", "organs", "fixed"]),
    end_antibiotic_free_hours=st.sampled_from([6.0, 48.0]),
    end_days=st.sampled_from([0.5, 2.0]),
    groups=st.sampled_from([("antibiotic",), ("antibiotic", "antifungal")]),
)
