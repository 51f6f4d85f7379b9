"""A second implementation of Sepsis-3, from the definitions in docs/sepsis3.md, in plain Python.

It loops over the facts of one stay, and shares only the catalogue's drug groups and the options
with the package.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from flowsheet.cohort.catalogue import drugs
from tests.cohort.sepsis3.reference_sofa import DAY, HOUR, score_hours

TICK = timedelta(microseconds=1)


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
    doses = list_doses(stay, choose_records(stay, antibiotics, options), options)
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
        ends_after_start = time + options.window_after_hours * HOUR >= stay["admitted_at"]
        if options.antibiotics_in_stay or (starts_before_end and ends_after_start):
            suspicions[time] = min(known, suspicions.get(time, known))
    return suspicions


def choose_records(stay, antibiotics, options):
    """The antibiotics that count by their kind of record and their start."""
    chosen = []
    for row in antibiotics:
        latest_start = row["time"] + (DAY if row["date_only"] else 0 * DAY)
        in_stay = latest_start >= stay["admitted_at"] and row["time"] < stay["discharged_at"]
        is_charted = row["source"] != "prescriptions"
        if (options.charted_doses or not is_charted) and (
            in_stay or not options.antibiotics_in_stay
        ):
            chosen.append(row)
    return chosen


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
