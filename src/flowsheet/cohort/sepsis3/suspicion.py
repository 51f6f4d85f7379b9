"""Suspicion of infection: an antibiotic and a culture within a short time.

Singer et al., JAMA 315:801-810 (2016), doi:10.1001/jama.2016.0287; Seymour et al., JAMA 315:762-774
(2016), doi:10.1001/jama.2016.0288.

A fact with a date but no time may have happened at any moment of its day. Its order relative to
another fact of the same day is not invented: the time of suspicion is then the later of the two
starts.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sepsis3.frames import ORDERED, SUSPICIONS
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, NEVER, from_hours, microseconds
from flowsheet.typing import Bools, Ints

DAY = 24 * HOUR
_UNKNOWN = np.iinfo(np.int64).max

Counts = dict[str, int]


def select_doses(
    grid: HourlyGrid, antibiotics: pl.DataFrame, options: Sepsis3Options
) -> tuple[pl.DataFrame, Counts]:
    """The antibiotics of the chosen groups and routes, one row per dose.

    An infusion or order of more than 24 h is a dose every 24 h, each known when it begins; a day
    without a time is known when it is over.

    Returns:
        (stay_id, drug, time, last, until, known_at), where ``last`` is the latest moment at which
        the dose may have begun and ``until`` when it was over; and how many rows were excluded.
    """
    nearby = _near_stays(grid, _choose_records(grid, antibiotics, options), "end", options)
    groups = [name for name, drug in catalogue.drugs().items() if drug.group in options.groups]
    routes = [route.lower() for route in options.excluded_routes]
    of_groups = nearby.filter(pl.col("drug").is_in(groups))
    is_excluded = pl.col("route").str.to_lowercase().is_in(routes).fill_null(value=False)
    kept = of_groups.filter(~is_excluded)
    counts = {
        "antibiotics": nearby.height,
        "antibiotics excluded: group": nearby.height - of_groups.height,
        "antibiotics excluded: route": of_groups.height - kept.height,
    }
    return _date_by_charted_doses(grid, _split_into_doses(kept, options)), counts


def _choose_records(
    grid: HourlyGrid, antibiotics: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """The antibiotics without charted doses and those outside the stay, where they do not count."""
    rows = antibiotics
    if not options.charted_doses:
        rows = rows.filter(source=ORDERED)
    if not options.antibiotics_in_stay or rows.is_empty():
        return rows
    stay = grid.stay_positions(rows)
    day = np.where(rows["date_only"].to_numpy(), DAY, 0)
    begins = microseconds(rows["time"])
    is_inside = (begins + day >= grid.admitted[stay]) & (begins < grid.discharged[stay])
    return rows.filter(pl.Series(is_inside))


def select_cultures(
    grid: HourlyGrid, cultures: pl.DataFrame, options: Sepsis3Options
) -> tuple[pl.DataFrame, Counts]:
    """The cultures without the excluded specimens.

    Returns:
        (stay_id, time, last, known_at), where ``last`` is the latest moment at which the culture
        may have been taken; and how many rows were excluded.
    """
    nearby = _near_stays(grid, cultures, "time", options)
    names = [name.upper() for name in options.excluded_specimens]
    is_excluded = pl.col("specimen").fill_null("").str.to_uppercase().str.contains_any(names)
    kept = nearby.filter(~is_excluded) if names else nearby
    time = pl.col("time").cast(pl.Int64)
    first, last = _moments_of_day(time, options)
    is_date = pl.col("date_only")
    earliest_known = pl.when(is_date).then(time + DAY).otherwise(time)
    taken = kept.filter(~is_date | (last >= pl.col("arrived"))).select(
        "stay_id",
        time=pl.when(is_date).then(first).otherwise(time).cast(TIME),
        last=pl.when(is_date).then(last).otherwise(time).cast(TIME),
        known_at=pl.max_horizontal(pl.col("known_at").cast(pl.Int64), earliest_known).cast(TIME),
    )
    taken = taken.group_by("stay_id", "time", "last").agg(pl.col("known_at").min()).sort(pl.all())
    counts = {
        "cultures": nearby.height,
        "cultures excluded: specimen": nearby.height - kept.height,
    }
    return taken, counts


def select_confirmed(
    grid: HourlyGrid, doses: pl.DataFrame, options: Sepsis3Options
) -> tuple[pl.DataFrame, Counts]:
    """The doses that a later dose, or the end of the record, confirms as part of a treatment.

    The later dose is given between ``confirm_after_hours`` (for prophylaxis drugs
    ``prophylaxis_hours``) and ``confirm_within_hours`` after the latest moment at which the dose
    may have begun. A patient who dies within ``confirm_within_hours`` can have no later dose.

    Returns:
        (stay_id, time, last, known_at), where ``known_at`` is when the dose was known to be
        confirmed; and how many doses were excluded.
    """
    is_prophylaxis = pl.col("drug").is_in(options.prophylaxis_drugs).alias("is_prophylaxis")
    is_start = pl.Series("is_start", _starts_course(grid, doses, options))
    grouped = doses.group_by("stay_id", "time", "last", is_prophylaxis, is_start)
    rows = grouped.agg(pl.col("known_at").min()).sort(pl.all())
    confirmed = rows
    if options.confirm_after_hours > 0:
        known = _confirmed_by_dose(grid, rows, options)
        if options.end_confirms:
            known = np.minimum(known, _confirmed_by_end(grid, rows, options))
        is_confirmed = known < _UNKNOWN
        known_at = pl.Series(known).cast(TIME)
        confirmed = rows.with_columns(known_at=known_at).filter(is_confirmed)
    starts = confirmed.filter("is_start")
    counts = {
        "doses": rows.height,
        "doses excluded: single or prophylaxis": rows.height - confirmed.height,
        "doses excluded: not the start of a course": confirmed.height - starts.height,
    }
    return starts, counts


def _starts_course(grid: HourlyGrid, doses: pl.DataFrame, options: Sepsis3Options) -> Bools:
    """Whether each dose starts a course, by the doses that were known when it was."""
    if options.antibiotic_course == "dose" or doses.is_empty():
        return np.ones(doses.height, bool)
    if options.antibiotic_course == "order":
        return doses["is_first"].to_numpy()
    numbered = doses.with_row_index("row").sort("stay_id", "time")
    stay = grid.stay_positions(numbered)
    drug = numbered["drug"].rank("dense").to_numpy()
    time, until, known = (microseconds(numbered[name]) for name in ("time", "until", "known_at"))
    since = time - from_hours(options.course_gap_hours)
    dose, earlier = grid.pairs((stay, since - DAY, time - 1), (stay, time))
    continues = (
        (drug[earlier] == drug[dose])
        & (until[earlier] >= since[dose])
        & (known[earlier] <= known[dose])
    )
    starts = np.ones(doses.height, bool)
    starts[numbered["row"].to_numpy()[dose[continues]]] = False
    return starts


def _confirmed_by_dose(grid: HourlyGrid, rows: pl.DataFrame, options: Sepsis3Options) -> Ints:
    """When each dose was known to be confirmed; ``_UNKNOWN`` if no later dose confirms it."""
    stay = grid.stay_positions(rows)
    time, last, known = (microseconds(rows[name]) for name in ("time", "last", "known_at"))
    shortest = np.where(
        rows["is_prophylaxis"].to_numpy(),
        from_hours(max(options.confirm_after_hours, options.prophylaxis_hours)),
        from_hours(options.confirm_after_hours),
    )
    longest = from_hours(options.confirm_within_hours)
    # A dose with only a date may be up to a day later than its time.
    dose, later = grid.pairs((stay, last + shortest - DAY, last + longest), (stay, time))
    is_late_enough = last[later] >= last[dose] + shortest[dose]
    both_known = np.maximum(known[dose], known[later])
    confirmed_at = np.full(len(stay), _UNKNOWN)
    np.minimum.at(confirmed_at, dose[is_late_enough], both_known[is_late_enough])
    return confirmed_at


def _confirmed_by_end(grid: HourlyGrid, rows: pl.DataFrame, options: Sepsis3Options) -> Ints:
    """When death, or the end of the stay, confirmed each dose; ``_UNKNOWN`` if neither does.

    An order by date is known for the whole hospital admission, so the end of the stay in the unit
    hides no later day of it. Prophylaxis often ends with the stay.
    """
    stay = grid.stay_positions(rows)
    time, last, known = (microseconds(rows[name]) for name in ("time", "last", "known_at"))
    died, discharged = grid.died[stay], grid.discharged[stay]
    latest = last + from_hours(options.confirm_within_hours)
    may_be_hidden = ~rows["is_prophylaxis"].to_numpy() & (time == last)
    by_death = (died >= time) & (died <= latest)
    by_discharge = may_be_hidden & (discharged >= time) & (discharged <= latest)
    confirmed_at = np.where(by_discharge, np.minimum(died, discharged), died)
    return np.where(by_death | by_discharge, np.maximum(known, confirmed_at), _UNKNOWN)


def find_suspicions(
    grid: HourlyGrid, treated: pl.DataFrame, taken: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """The suspicions whose window overlaps the stay; of several at one time the first known.

    With ``antibiotics_in_stay`` it is every suspicion by an antibiotic of the stay.

    Args:
        grid: The stays.
        treated: The confirmed doses, (stay_id, time, last, known_at).
        taken: The cultures, (stay_id, time, last, known_at).
        options: The definition's parameters.

    Returns:
        Columns as in ``SUSPICIONS``, sorted.
    """
    columns = ("time", "last", "known_at")
    dose_stay, culture_stay = grid.stay_positions(treated), grid.stay_positions(taken)
    dose_time, dose_last, dose_known = (microseconds(treated[name]) for name in columns)
    culture_time, culture_last, culture_known = (microseconds(taken[name]) for name in columns)
    longest_after_dose = from_hours(options.antibiotic_first_hours)
    longest_before_dose = from_hours(options.culture_first_hours)
    # A culture with only a date may be up to a day later than its time.
    low = dose_time - longest_before_dose - DAY
    high = dose_last + longest_after_dose
    dose, culture = grid.pairs((dose_stay, low, high), (culture_stay, culture_time))

    culture_may_be_first = culture_time[culture] <= dose_last[dose]
    dose_may_be_first = dose_time[dose] <= culture_last[culture]
    is_close = (
        culture_may_be_first & (dose_time[dose] <= culture_last[culture] + longest_before_dose)
    ) | (dose_may_be_first & (culture_time[culture] <= dose_last[dose] + longest_after_dose))
    order_is_unknown = culture_may_be_first & dose_may_be_first
    later = np.maximum(dose_time[dose], culture_time[culture])
    earlier = np.minimum(dose_time[dose], culture_time[culture])
    time = np.where(order_is_unknown, later, earlier)
    stay = dose_stay[dose]
    window_start = time - from_hours(options.window_before_hours)
    window_end = time + from_hours(options.window_after_hours)
    is_near = (window_start <= grid.discharged[stay]) & (window_end >= grid.admitted[stay])
    if options.antibiotics_in_stay:  # they make it a suspicion of the stay, whenever it began
        is_near = np.ones(len(stay), bool)

    pairs = pl.DataFrame(
        {
            "stay_id": grid.stay_id[stay],
            "time": time,
            "antibiotic_time": dose_time[dose],
            "culture_time": culture_time[culture],
            "known_at": np.maximum(dose_known[dose], culture_known[culture]),
        }
    )
    pairs = pairs.with_columns(
        dose=pl.Series(dose),
        is_after=pl.Series(~culture_may_be_first),
        is_near=pl.Series(is_near),
    ).filter(is_close)
    if options.first_culture_only:
        pairs = _first_known(pairs.sort("dose", "is_after", "culture_time", "known_at"), "dose")
    if options.first_suspicion_only:
        pairs = _first_known(pairs.sort("stay_id", "time", "known_at"), "stay_id")
    suspicions = pairs.filter("is_near").select(list(SUSPICIONS)).cast(pl.Schema(SUSPICIONS))
    order = ["stay_id", "time", "known_at", "antibiotic_time", "culture_time"]
    return suspicions.sort(order).unique(["stay_id", "time"], keep="first", maintain_order=True)


def _first_known(pairs: pl.DataFrame, group: str) -> pl.DataFrame:
    """The first row of each group, and later rows that were known before all rows before them."""
    known_before = pl.col("known_at").cum_min().shift(1).over(group)
    is_first = (pl.col("known_at") < known_before).fill_null(value=True)
    return pairs.filter(is_first)


def _near_stays(
    grid: HourlyGrid, rows: pl.DataFrame, end: str, options: Sepsis3Options
) -> pl.DataFrame:
    """The rows that are near enough to their stay to affect its label.

    The new columns are the limits ``from`` and ``to``, and when the patient ``arrived`` in the
    hospital, in microseconds.
    """
    stay = grid.stay_positions(rows)
    reach = _reach(options)
    earliest = grid.admitted[stay] - reach
    latest = grid.discharged[stay] + reach
    time = microseconds(rows["time"])
    end_time = np.maximum(microseconds(rows[end]), time)
    is_near = (stay >= 0) & (time <= latest) & (end_time >= earliest)
    limits = {
        "from": pl.Series(earliest),
        "to": pl.Series(latest),
        "arrived": pl.Series(grid.arrived[stay]),
    }
    return rows.with_columns(**limits).filter(is_near)


def _reach(options: Sepsis3Options) -> int:
    """The longest time between a stay and a fact that affects it: the sum of all spans."""
    hours = (
        options.culture_first_hours
        + options.antibiotic_first_hours
        + options.window_before_hours
        + options.window_after_hours
        + options.confirm_within_hours
        + options.end_antibiotic_free_hours
    )
    return from_hours(hours) + 2 * DAY


def _moments_of_day(midnight: pl.Expr, options: Sepsis3Options) -> tuple[pl.Expr, pl.Expr]:
    """The first and the last moment at which a fact with only a date may have happened.

    It did not happen before the patient came. All expressions are in microseconds.
    """
    if options.date_only_time == "day":
        first, last = midnight, midnight + DAY - 1
    else:
        first = midnight + (DAY // 2 if options.date_only_time == "noon" else 0)
        last = pl.max_horizontal(first, pl.min_horizontal("arrived", midnight + DAY - 1))
    return pl.max_horizontal(first, pl.min_horizontal("arrived", last)), last


def _split_into_doses(rows: pl.DataFrame, options: Sepsis3Options) -> pl.DataFrame:
    """One row per started 24 h of each row, as far as it is near the stay.

    The days of an order that were over before the patient came are left out.
    """
    time, end = (pl.col(name).cast(pl.Int64) for name in ("time", "end"))
    first = pl.max_horizontal(pl.lit(0), (pl.col("from") - time) // DAY)
    stop = pl.min_horizontal((end - time + DAY - 1) // DAY, (pl.col("to") - time) // DAY + 1)
    day = pl.int_ranges(first, pl.max_horizontal(first + 1, stop))
    doses = rows.with_columns(day=day).explode("day")
    begin = time + pl.col("day") * DAY
    day_end = begin + DAY
    is_date = pl.col("date_only")
    first_moment, last_moment = _moments_of_day(begin, options)
    until = pl.max_horizontal(begin, pl.min_horizontal(day_end, end))
    earliest_known = pl.when(is_date).then(day_end).otherwise(begin)
    return doses.filter(~is_date | (day_end > pl.col("arrived"))).select(
        "stay_id",
        "drug",
        "date_only",
        is_first=pl.col("day") == 0,
        begin=begin.cast(TIME),
        time=pl.when(is_date).then(first_moment).otherwise(begin).cast(TIME),
        last=pl.when(is_date).then(last_moment).otherwise(begin).cast(TIME),
        until=pl.when(is_date).then(day_end).otherwise(until).cast(TIME),
        known_at=pl.max_horizontal(pl.col("known_at").cast(pl.Int64), earliest_known).cast(TIME),
    )


def _date_by_charted_doses(grid: HourlyGrid, doses: pl.DataFrame) -> pl.DataFrame:
    """Orders by date with the time of the drug's first charted dose of that day.

    A dose that is not in the record when the order is, is not used.
    """
    is_date = pl.col("date_only")
    orders = doses.filter(is_date)
    charted = doses.filter(~is_date).sort("stay_id", "time", "drug", "known_at")
    day = microseconds(orders["begin"])
    stays = grid.stay_positions(orders), grid.stay_positions(charted)
    charted_time = microseconds(charted["time"])
    order, dose = grid.pairs((stays[0], day, day + DAY - 1), (stays[1], charted_time))
    is_in_record = (
        microseconds(charted["known_at"])[dose] <= microseconds(orders["known_at"])[order]
    )
    is_same = (charted["drug"].gather(dose) == orders["drug"].gather(order)).to_numpy()
    matches = is_in_record & is_same
    first = np.full(orders.height, NEVER)
    np.minimum.at(first, order[matches], charted_time[dose[matches]])
    given_at = pl.when(pl.Series(first < NEVER)).then(pl.Series(first).cast(TIME))
    dated = orders.with_columns(time=given_at.otherwise("time"), last=given_at.otherwise("last"))
    return pl.concat([charted, dated]).drop("date_only", "begin")
