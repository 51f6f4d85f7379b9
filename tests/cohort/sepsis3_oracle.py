"""Sepsis-3 a second time, from the definitions in docs/sepsis3.md, in plain Python: loops over one
stay's facts.

Nothing here comes from the package but the catalogue's drug groups and the options' values.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from flowsheet.cohort.catalogue import drugs

H = timedelta(hours=1)
DAY = 24 * H
TICK = timedelta(microseconds=1)
PARTS = ("respiration", "coagulation", "liver", "cardiovascular", "cns", "renal")


def hours_of(stay):
    n = 0
    while stay["admitted_at"] + n * H < stay["discharged_at"]:
        n += 1
    return [(h, stay["admitted_at"] + h * H) for h in range(1, n + 1)]


def steps_below(value, *bounds):
    return sum(value < bound for bound in bounds)


def steps_from(value, *bounds):
    return sum(value >= bound for bound in bounds)


def graded(events, treatments, o):  # noqa: PLR0912
    """All facts as (component, time, until, known_at, score), without urine."""
    facts = []
    by_time = {}
    for e in events:
        time, known, value, name = e["time"], e["known_at"], e["value"], e["variable"]
        if name == "plt":
            facts.append(("coagulation", time, time, known, steps_below(value, 150, 100, 50, 20)))
        if name == "bili":
            facts.append(("liver", time, time, known, steps_from(value, 1.2, 2.0, 6.0, 12.0)))
        if name == "crea":
            facts.append(("renal", time, time, known, steps_from(value, 1.2, 2.0, 3.5, 5.0)))
        if name == "map":
            facts.append(("cardiovascular", time, time, known, 1 if value < 70 else 0))
        if name in ("gcs", "egcs", "mgcs", "vgcs"):
            by_time.setdefault(time, {})[name] = (known, value)
        if name == "po2":
            facts += gas(e, events, o)
    for time, charted in by_time.items():
        if "gcs" in charted:
            known, value = charted["gcs"]
        elif len(charted) == 3:
            known, value = max(k for k, _ in charted.values()), sum(v for _, v in charted.values())
        else:
            continue
        facts.append(("cns", time, time, known, steps_below(value, 15, 13, 10, 6)))
    for t in treatments:
        score = pressor(t)
        if score is not None and t["end"] > t["start"]:
            facts.append(("cardiovascular", t["start"], t["end"], t["known_at"], score))
    return facts


def pressor(t):
    if t["dose"] is not None and t["dose"] <= 0:
        return None
    rate = None if t["dose"] is None else round(t["dose"] / 60, 6)
    if t["drug"] in ("norepinephrine", "epinephrine"):
        return 4 if rate is not None and rate > 0.1 else 3
    if t["drug"] == "dopamine":
        if rate is None or rate <= 5:
            return 2
        return 4 if rate > 15 else 3
    return 2 if t["drug"] == "dobutamine" else None


def gas(e, events, o):
    counts_from = max(e["known_at"], e["time"] + o.charting_delay_hours * H)

    def latest(name, within):
        seen = [
            (x["time"], x["known_at"], x["value"])
            for x in events
            if x["variable"] == name
            and e["time"] - within * H <= x["time"] <= e["time"]
            and x["known_at"] <= counts_from
        ]
        return max(seen)[2] if seen else None

    fio2, vent = latest("fio2", o.fio2_hours), latest("vent", o.ventilation_hours)
    if fio2 is None:
        return []
    ratio = round(100 * e["value"] / fio2, 6)
    score = 0
    if ratio < 400:
        score = 1
    if ratio < 300:
        score = 2
    if vent and ratio < 200:
        score = 3
    if vent and ratio < 100:
        score = 4
    return [("respiration", e["time"], e["time"], e["known_at"], score)]


def urine_spans(stay, events, o):
    """(time, mL, hours that the reading speaks of)."""
    amounts = {}
    for e in events:
        prompt = e["known_at"] <= e["time"] + o.charting_delay_hours * H
        if e["variable"] == "urine" and prompt and e["time"] > stay["admitted_at"]:
            amounts[e["time"]] = amounts.get(e["time"], 0.0) + e["value"]
    before, spans = stay["admitted_at"], []
    for time in sorted(amounts):
        spans.append((time, amounts[time], (time - before) / H))
        before = time
    return spans


def sofa(stay, events, treatments, o):
    """One dict an hour: hour, time, the components (None: not known), total, known, change."""
    facts, spans = graded(events, treatments, o), urine_spans(stay, events, o)
    rows = []
    for h, t in hours_of(stay):
        row = {"hour": h, "time": t}
        for part in PARTS:
            scores = [
                score
                for name, time, until, known, score in facts
                if name == part
                and time <= t
                and until > t - DAY
                and known <= t + o.charting_delay_hours * H
            ]
            row[part] = max(scores) if scores else None
        last = [(ml, span) for time, ml, span in spans if t - DAY < time <= t]
        covered = round(sum(span for _, span in last), 9)
        if o.urine_covered_hours[0] <= covered <= o.urine_covered_hours[1]:
            daily = round(sum(ml for ml, _ in last) * 24 / covered, 6)
            by_urine = 4 if daily < 200 else 3 if daily < 500 else 0
            row["renal"] = max(by_urine, row["renal"] or 0)
        row["total"] = sum(row[part] or 0 for part in PARTS)
        row["known"] = sum(row[part] is not None for part in PARTS)
        rows.append(row)
    for row in rows:
        row["change"] = sum(changed(rows[: row["hour"]], part, o) for part in PARTS)
    return rows


def changed(past, part, o):
    """A component's change up to the last row of ``past``."""
    seen = [(row["hour"], row[part]) for row in past if row[part] is not None]
    if not seen:
        return 0
    first_hour, first = seen[0]
    if o.baseline == "presumed_zero" and first_hour <= o.admission_hours:
        first = 0
    return seen[-1][1] - first


def doses(antibiotics, o):
    """(drug, time, last, until, known)."""
    out = []
    for a in antibiotics:
        drug = drugs().get(a["drug"])
        if drug is None or drug.group not in o.groups:
            continue
        if a["route"] is not None and a["route"].lower() in [r.lower() for r in o.excluded_routes]:
            continue
        begin = a["time"]
        while True:
            over = begin + DAY
            if a["date_only"]:
                out.append((a["drug"], begin, over - TICK, over, max(a["known_at"], over)))
            else:
                out.append(
                    (
                        a["drug"],
                        begin,
                        begin,
                        max(begin, min(over, a["end"])),
                        max(a["known_at"], begin),
                    )
                )
            begin = over
            if begin >= a["end"]:
                break
    return out


def confirmed(given, o):
    """(time, last, known) of the doses that belong to a treatment."""
    if o.confirm_after_hours <= 0:
        return [(time, last, known) for _, time, last, _, known in given]
    out = []
    for drug, time, last, _, known in given:
        least = o.confirm_after_hours
        if drug in o.prophylaxis_drugs:
            least = max(least, o.prophylaxis_hours)
        when = [
            max(known, again_known)
            for _, again, again_last, _, again_known in given
            if again_last >= last + least * H and again <= last + o.confirm_within_hours * H
        ]
        if when:
            out.append((time, last, min(when)))
    return out


def suspicions(stay, antibiotics, cultures, o):
    """{time: known_at}."""
    found = {}
    for a, a_last, a_known in confirmed(doses(antibiotics, o), o):
        for c in cultures:
            if any(word.upper() in (c["specimen"] or "").upper() for word in o.excluded_specimens):
                continue
            start = c["time"]
            last = start + DAY - TICK if c["date_only"] else start
            c_known = max(c["known_at"], start + DAY if c["date_only"] else start)
            # the pair of moments, one of each, that lie nearest in either order
            culture_first = start <= a_last and a - last <= o.culture_first_hours * H
            antibiotic_first = a <= last and start - a_last <= o.antibiotic_first_hours * H
            if not (culture_first or antibiotic_first):
                continue
            same = a <= last and start <= a_last
            time = max(a, start) if same else min(a, start)
            if (
                time - o.window_before_hours * H > stay["discharged_at"]
                or time + o.window_after_hours * H < stay["admitted_at"]
            ):
                continue
            known = max(a_known, c_known)
            found[time] = min(known, found.get(time, known))
    return found


def episodes(stay, events, treatments, antibiotics, cultures, o):
    """(onset, end, known_at), in order; ``end`` None: not over when the stay ends."""
    rows = sofa(stay, events, treatments, o)
    key = "total" if o.criterion == "level" else "change"
    given = doses(antibiotics, o)
    settle = o.charting_delay_hours * H
    possible = []
    for s, s_known in suspicions(stay, antibiotics, cultures, o).items():
        low = None
        start, stop = s - o.window_before_hours * H, s + o.window_after_hours * H
        if start <= stay["admitted_at"] <= stop:
            low = 0
        for row in rows:
            if not start <= row["time"] <= stop:
                continue
            low = row[key] if low is None else min(low, row[key])
            base = 0 if o.criterion == "level" else low
            if row[key] - base >= o.points:
                onset = min(row["time"], stay["discharged_at"])
                possible.append((max(s_known, row["time"] + settle), onset, base))
    found, free = [], datetime.min
    while True:
        ahead = [p for p in possible if p[1] >= free]
        if not ahead:
            return found
        known, onset, base = min(ahead)
        end = ending(stay, rows, key, given, (onset, known, base), o)
        found.append((onset, end, known))
        if end is None:
            return found
        free = end


def ending(stay, rows, key, given, episode, o):
    onset, known, base = episode
    settle = o.charting_delay_hours * H
    if o.end == "fixed":
        end = onset + o.end_days * DAY
        return end if end <= stay["discharged_at"] else None
    for row in rows:
        u = row["time"]
        if u <= onset or u + settle < known:
            continue
        recent = o.end == "recovery" and any(
            time <= u and k <= u + settle and until + o.end_antibiotic_free_hours * H > u
            for _, time, _, until, k in given
        )
        if not recent and row[key] - base <= o.end_points:
            return u + settle if u + settle <= stay["discharged_at"] else None
    return None
