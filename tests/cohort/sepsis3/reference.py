"""A second implementation of Sepsis-3, from the definitions in docs/sepsis3.md, in plain Python.

It loops over the facts of one stay, and shares only the catalogue's drug groups and the options
with the package.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from flowsheet.cohort.catalogue import drugs

HOUR = timedelta(hours=1)
DAY = 24 * HOUR
TICK = timedelta(microseconds=1)
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


def moments_of_day(midnight, arrived, options):
    """The first and last moment of a fact with only a date; it did not precede the arrival."""
    end_of_day = midnight + DAY - TICK
    if options.date_only_time == "day":
        return max(midnight, min(arrived, end_of_day)), end_of_day
    moment = midnight + (12 * HOUR if options.date_only_time == "noon" else 0 * HOUR)
    moment = max(moment, min(arrived, end_of_day))
    return moment, moment


def list_doses(stay, antibiotics, options):
    """(drug, time, last, until, known, is the first of its row)."""
    doses = []
    arrived = stay.get("hospital_admitted_at") or datetime.min
    routes = [route.lower() for route in options.excluded_routes]
    kept = []
    for antibiotic in antibiotics:
        drug = drugs().get(antibiotic["drug"])
        if drug is None or drug.group not in options.groups:
            continue
        if antibiotic["route"] is not None and antibiotic["route"].lower() in routes:
            continue
        kept.append(antibiotic)
    for antibiotic in kept:
        known, end = antibiotic["known_at"], antibiotic["end"]
        begin = antibiotic["time"]
        while True:
            day_end = begin + DAY
            is_first = begin == antibiotic["time"]
            name = antibiotic["drug"]
            if not antibiotic["date_only"]:
                until = max(begin, min(day_end, end))
                doses.append((name, begin, begin, until, max(known, begin), is_first))
            elif day_end > arrived:
                known_by = max(known, day_end)
                time, last = moments_of_day(begin, arrived, options)
                charted = list_charted_times(kept, name, begin, known_by)
                if charted:
                    time = last = min(charted)
                doses.append((name, time, last, day_end, known_by, is_first))
            begin = day_end
            if begin >= end:
                break
    return doses


def list_charted_times(antibiotics, drug, midnight, known_by):
    """When a drug was charted on a day, as far as it was in the record; every 24 h of infusions."""
    times = []
    for antibiotic in antibiotics:
        if antibiotic["date_only"] or antibiotic["drug"] != drug:
            continue
        time = antibiotic["time"]
        while True:
            if midnight <= time < midnight + DAY and max(antibiotic["known_at"], time) <= known_by:
                times.append(time)
            time += DAY
            if time >= antibiotic["end"]:
                break
    return times


def starts_course(dose, doses, options):
    drug, time, _, _, known, is_first = dose
    if options.antibiotic_course == "dose":
        return True
    if options.antibiotic_course == "order":
        return is_first
    gap = options.course_gap_hours * HOUR
    return not any(
        other_drug == drug and other < time and until >= time - gap and other_known <= known
        for other_drug, other, _, until, other_known, _ in doses
    )


def confirm_doses(stay, doses, options):
    """(time, last, known) of the doses that a later one, or the end of the record, confirms."""
    confirmed = []
    for dose in doses:
        drug, time, last, _, known, _ = dose
        if not starts_course(dose, doses, options):
            continue
        if options.confirm_after_hours <= 0:
            confirmed.append((time, last, known))
            continue
        shortest = options.confirm_after_hours
        if drug in options.prophylaxis_drugs:
            shortest = max(shortest, options.prophylaxis_hours)
        latest = last + options.confirm_within_hours * HOUR
        both_known = [
            max(known, later_known)
            for _, later, later_last, _, later_known, _ in doses
            if later_last >= last + shortest * HOUR and later <= latest
        ]
        died, discharged = stay["died_at"], stay["discharged_at"]
        if options.end_confirms and died is not None and time <= died <= latest:
            both_known.append(max(known, died))
        is_hidden = time == last and drug not in options.prophylaxis_drugs
        if options.end_confirms and is_hidden and time <= discharged <= latest:
            both_known.append(max(known, discharged))
        if both_known:
            confirmed.append((time, last, min(both_known)))
    return confirmed


def list_cultures(stay, cultures, options):
    """(time, last, known)."""
    taken = []
    for culture in cultures:
        specimen = (culture["specimen"] or "").upper()
        if any(name.upper() in specimen for name in options.excluded_specimens):
            continue
        time, known = culture["time"], culture["known_at"]
        if culture["date_only"]:
            arrived = stay.get("hospital_admitted_at") or datetime.min
            first, last = moments_of_day(time, arrived, options)
            if last >= arrived:
                taken.append((first, last, max(known, time + DAY)))
        else:
            taken.append((time, time, max(known, time)))
    return taken


def find_suspicions(stay, antibiotics, cultures, options):
    """{time: known_at}."""
    pairs = []  # (time, known_at)
    taken = list_cultures(stay, cultures, options)
    doses = list_doses(stay, antibiotics, options)
    for dose in sorted(set(confirm_doses(stay, doses, options))):
        of_dose = sorted(
            pair for culture in taken if (pair := pair_up(dose, culture, options)) is not None
        )
        if options.first_culture_only:
            of_dose = keep_first_known(of_dose)
        pairs += [(time, known) for _, _, known, time in of_dose]
    if options.first_suspicion_only:
        rows = [(0, time, known) for time, known in sorted(pairs)]
        pairs = [(time, known) for _, time, known in keep_first_known(rows)]
    suspicions = {}
    for time, known in pairs:
        starts_before_end = time - options.window_before_hours * HOUR <= stay["discharged_at"]
        if starts_before_end and time + options.window_after_hours * HOUR >= stay["admitted_at"]:
            suspicions[time] = min(known, suspicions.get(time, known))
    return suspicions


def keep_first_known(rows):
    """The first row, and later ones that were known before all before them; known_at is third."""
    kept = []
    for n, row in enumerate(rows):
        if all(row[2] < earlier[2] for earlier in rows[:n]):
            kept.append(row)
    return kept


def pair_up(dose, culture, options):
    """(dose is first, culture, known_at, time of suspicion), or None if they are too far apart."""
    dose, dose_last, dose_known = dose
    culture, culture_last, culture_known = culture
    # In either order, the two moments that are nearest to each other.
    culture_may_be_first = culture <= dose_last
    dose_may_be_first = dose <= culture_last
    culture_first = (
        culture_may_be_first and dose - culture_last <= options.culture_first_hours * HOUR
    )
    dose_first = dose_may_be_first and culture - dose_last <= options.antibiotic_first_hours * HOUR
    if not (culture_first or dose_first):
        return None
    order_is_unknown = culture_may_be_first and dose_may_be_first
    time = max(dose, culture) if order_is_unknown else min(dose, culture)
    return (not culture_may_be_first, culture, max(dose_known, culture_known), time)


def find_onsets(stay, rows, suspicions, options):
    """(known_at, onset, base) of every hour that meets the criterion around a suspicion."""
    key = "total" if options.criterion == "level" else "change"
    onsets = []
    for suspicion, suspicion_known in suspicions.items():
        lowest = None
        start = suspicion - options.window_before_hours * HOUR
        stop = suspicion + options.window_after_hours * HOUR
        if start <= stay["admitted_at"] <= stop:
            lowest = 0
        for row in rows:
            if not start <= row["time"] <= stop:
                continue
            lowest = row[key] if lowest is None else min(lowest, row[key])
            base = 0 if options.criterion == "level" else lowest
            if row[key] - base >= options.points:
                onset = min(row["time"], stay["discharged_at"])
                score_known = row["time"] + options.charting_delay_hours * HOUR
                onsets.append((max(suspicion_known, score_known), onset, base))
    return onsets


def find_episodes(stay, events, treatments, antibiotics, cultures, options):
    """(onset, end, known_at, present_on_admission), in order.

    ``end`` is None if the stay ends before.
    """
    rows = score_hours(stay, events, treatments, options)
    doses = list_doses(stay, antibiotics, options)
    suspicions = find_suspicions(stay, antibiotics, cultures, options)
    onsets = find_onsets(stay, rows, suspicions, options)
    episodes = []
    not_before = datetime.min
    while True:
        allowed = [onset for onset in onsets if onset[1] >= not_before]
        if not allowed:
            return episodes
        known, onset, base = min(allowed)
        end = find_end(stay, rows, doses, (onset, known, base), options)
        is_early = onset - stay["admitted_at"] <= options.admission_window_hours * HOUR
        episodes.append((onset, end, known, is_early))
        if end is None:
            return episodes
        not_before = end


def find_end(stay, rows, doses, episode, options):
    onset, known, base = episode
    delay = options.charting_delay_hours * HOUR
    key = "total" if options.criterion == "level" else "change"
    if options.end == "fixed":
        end = onset + options.end_days * DAY
        return end if end <= stay["discharged_at"] else None
    for row in rows:
        moment = row["time"]
        if moment <= onset or moment + delay < known:
            continue
        is_treated = options.end == "recovery" and any(
            time <= moment
            and dose_known <= moment + delay
            and until + options.end_antibiotic_free_hours * HOUR > moment
            for _, time, _, until, dose_known, _ in doses
        )
        if not is_treated and row[key] - base <= options.end_points:
            end = moment + delay
            return end if end <= stay["discharged_at"] else None
    return None
