"""SOFA of every hour, for :mod:`tests.cohort.sepsis3.reference`: in plain Python, stay by stay."""

from __future__ import annotations

from datetime import timedelta

HOUR = timedelta(hours=1)
DAY = 24 * HOUR
PARTS = ("egcs", "mgcs", "vgcs")
COMPONENTS = ("respiration", "coagulation", "liver", "cardiovascular", "cns", "renal")


def list_hours(stay):
    n = 0
    while stay["admitted_at"] + n * HOUR < stay["discharged_at"]:
        n += 1
    return [(hour, stay["admitted_at"] + hour * HOUR) for hour in range(1, n + 1)]


def count_above(value, *bounds):
    return sum(value < bound for bound in bounds)


def count_reached(value, *bounds):
    return sum(value >= bound for bound in bounds)


def grade_facts(events, options):
    """All facts as (component, time, until, known_at, score), without urine and infusions."""
    facts = []
    by_variable = {}
    for event in events:
        by_variable.setdefault(event["variable"], []).append(event)
    for event in events:
        time, known, value = event["time"], event["known_at"], event["value"]
        name = event["variable"]
        if name == "plt":
            facts.append(("coagulation", time, time, known, count_above(value, 150, 100, 50, 20)))
        if name == "bili":
            facts.append(("liver", time, time, known, count_reached(value, 1.2, 2.0, 6.0, 12.0)))
        if name == "crea":
            facts.append(("renal", time, time, known, count_reached(value, 1.2, 2.0, 3.5, 5.0)))
        if name == "map":
            facts.append(("cardiovascular", time, time, known, 1 if value < 70 else 0))
        if name in ("gcs", *PARTS):
            facts += grade_coma(event, by_variable, options)
        if name == "po2":
            facts += grade_gas(event, by_variable, options)
        if name == "o2sat" and options.spo2_fio2 and value <= 97:
            facts += grade_oxygen(event, (512, 357, 214, 89), "saturation", by_variable, options)
        if name == "rrt" and value >= 0.5 and options.rrt_points:
            facts.append(("renal", time, time, known, 4))
    return facts


def find_latest(fact, name, within_hours, events, options):
    """The last value of a variable before a fact, as far as it was known when the fact counts.

    ``events`` are lists by variable.
    """
    counts_from = max(fact["known_at"], fact["time"] + options.charting_delay_hours * HOUR)
    charted = [
        (event["time"], event["known_at"], event["value"])
        for event in events.get(name, [])
        if fact["time"] - within_hours * HOUR <= event["time"] <= fact["time"]
        and event["known_at"] <= counts_from
    ]
    return max(charted)[2] if charted else None


def grade_coma(event, events, options):
    value = event["value"]
    if event["variable"] != "gcs":
        carry = options.gcs_carry_hours
        parts = [find_latest(event, part, carry, events, options) for part in PARTS]
        if options.gcs_missing_parts == "normal":
            parts = [
                normal if part is None else part
                for part, normal in zip(parts, (4, 6, 5), strict=True)
            ]
        has_total = find_latest(event, "gcs", 0, events, options) is not None
        if has_total or None in parts:
            return []
        value = sum(parts)
    score = count_above(value, 15, 13, 10, 6)
    return [("cns", event["time"], event["time"], event["known_at"], score)]


def grade_infusions(moment, treatments, options):
    """The worst score of the drugs that ran long enough in the 24 hours; None: none did."""
    worst = None
    stop = moment + min(options.vasopressor_min_hours, options.charting_delay_hours) * HOUR
    for drug in ("norepinephrine", "epinephrine", "dopamine", "dobutamine"):
        scores, ran = [], timedelta(0)
        for treatment in treatments:
            start, end = treatment["start"], treatment["end"]
            in_record = treatment["known_at"] <= moment + options.charting_delay_hours * HOUR
            score = grade_vasopressor(treatment)
            if treatment["drug"] != drug or score is None or end <= start or not in_record:
                continue
            if start <= moment and end > moment - DAY:
                scores.append(score)
            ran += max(min(end, stop) - max(start, moment - DAY), timedelta(0))
        if scores and ran >= options.vasopressor_min_hours * HOUR:
            worst = max(scores) if worst is None else max(worst, *scores)
    return worst


def grade_vasopressor(treatment):
    drug, dose = treatment["drug"], treatment["dose"]
    if dose is not None and dose <= 0:
        return None
    rate = None if dose is None else round(dose / 60, 6)
    if drug in ("norepinephrine", "epinephrine"):
        return 4 if rate is not None and rate > 0.1 else 3
    if drug == "dopamine":
        if rate is None or rate <= 5:
            return 2
        return 4 if rate > 15 else 3
    return 2 if drug == "dobutamine" else None


def grade_gas(gas, events, options):
    return grade_oxygen(gas, (400, 300, 200, 100), "respiration", events, options)


def grade_oxygen(measured, bounds, component, events, options):
    fio2 = find_latest(measured, "fio2", options.fio2_hours, events, options)
    vent = find_latest(measured, "vent", options.ventilation_hours, events, options)
    if fio2 is None:
        fio2 = options.fio2_default
    if fio2 is None:
        return []
    ratio = round(100 * measured["value"] / fio2, 6)
    score = count_above(ratio, *bounds[:2])
    if vent:
        score += count_above(ratio, *bounds[2:])
    time, known = measured["time"], measured["known_at"]
    return [(component, time, time, known, score)]


def collect_urine(stay, events, moment, options):
    """(time, mL, hours that it covers) of the last reading of an hour and the day before it."""
    in_record = [
        event
        for event in events
        if stay["admitted_at"] < event["time"] <= moment
        and event["known_at"] <= moment + options.charting_delay_hours * HOUR
    ]
    readings = [event["time"] for event in in_record if event["variable"] == "urine"]
    last = max(readings, default=stay["admitted_at"])
    before = [time for time in readings if time <= last - DAY]
    start = max(before, default=stay["admitted_at"])
    volume = 0.0
    for event in in_record:
        if start < event["time"] <= last:
            if event["variable"] == "urine":
                volume += event["value"]
            if event["variable"] == "bladder_irrigant":
                volume -= event["value"]
    return last, round(volume, 6), (last - start) / HOUR


def grade_urine(volume, covered, options):
    """None: not enough is covered, or too much to know the amount of a day."""
    shortest, longest = options.urine_covered_hours
    if covered < shortest or volume < 0:
        return None
    per_day = round(volume * 24 / covered, 6) if covered <= longest else volume
    if per_day < 200:
        return 4
    if per_day < 500:
        return 3
    return 0 if covered <= longest else None


def score_hours(stay, events, treatments, options):
    """One dict per hour: hour, time, the components (None: unknown), total, known, change."""
    facts = grade_facts(events, options)
    urine = [event for event in events if event["variable"] in ("urine", "bladder_irrigant")]
    rows = []
    by_urine, previous_last = [], stay["admitted_at"]
    for hour, moment in list_hours(stay):
        row = {"hour": hour, "time": moment}
        for component in (*COMPONENTS, "saturation"):
            scores = [
                score
                for name, time, until, known, score in facts
                if name == component
                and time <= moment
                and until > moment - DAY
                and known <= moment + options.charting_delay_hours * HOUR
            ]
            row[component] = max(scores) if scores else None
        by_saturation = row.pop("saturation")
        if row["respiration"] is None:
            row["respiration"] = by_saturation
        by_drug = grade_infusions(moment, treatments, options)
        if by_drug is not None:
            row["cardiovascular"] = max(by_drug, row["cardiovascular"] or 0)
        last, *output = collect_urine(stay, urine, moment, options)
        by_urine.append(grade_urine(*output, options) if last > previous_last else None)
        previous_last = last
        judged = [score for score in by_urine[-24:] if score is not None]
        if judged:
            row["renal"] = max(*judged, row["renal"] or 0)
        row["total"] = sum(row[component] or 0 for component in COMPONENTS)
        row["known"] = sum(row[component] is not None for component in COMPONENTS)
        rows.append(row)
    for row in rows:
        past = rows[: row["hour"]]
        row["change"] = sum(change_of(past, component, options) for component in COMPONENTS)
    return rows


def change_of(past, component, options):
    """A component's change since its baseline, up to the last row of ``past``."""
    known = [row[component] for row in past if row[component] is not None]
    if not known or (options.missing_score == "zero" and past[-1][component] is None):
        return 0
    baseline = 0 if options.baseline == "presumed_zero" else known[0]
    return known[-1] - baseline
