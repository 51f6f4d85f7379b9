"""CDC's Adult Sepsis Event: blood culture, four days of antimicrobials and organ dysfunction.

CDC, Hospital Toolkit for Adult Sepsis Surveillance (2018); Rhee et al., JAMA 318:1241-1249 (2017),
doi:10.1001/jama.2017.13836. docs/sepsis3.md gives the rules and what is not repeated.

Every combination of a culture, a first antimicrobial and an organ dysfunction is judged by the
facts that were in the record when its last fact was; the one that is known first is the event.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EPISODES, TIME
from flowsheet.cohort.sepsis3.frames import SEPSIS, SUSPICIONS
from flowsheet.cohort.sepsis3.options import Sepsis3Options

WINDOW_DAYS = 2
"""Calendar days before and after the day of the culture."""
QUALIFYING_DAYS = 4
VASOPRESSORS = ("norepinephrine", "epinephrine", "dopamine", "phenylephrine", "vasopressin")
PARENTERAL = ("intravenous", "intramuscular")
LOOK_BACK_DAYS = 6
"""How far back a course must be followed to know whether it is older than its four days."""
FACTS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,
    "day": pl.Int64(),
    "known": TIME,
    "baseline_day": pl.Int64(),  # null: without a baseline
}
"""Columns of organ dysfunctions."""
_ROUTE = pl.col("route").str.to_lowercase()
_SPECIMEN = pl.col("specimen").fill_null("").str.to_uppercase()
_IS_BLOOD_CULTURE = _SPECIMEN.str.contains("BLOOD CULTURE", literal=True)


def find_infections(
    stays: pl.DataFrame,
    antibiotics: pl.DataFrame,
    cultures: pl.DataFrame,
    options: Sepsis3Options,
) -> pl.DataFrame:
    """The presumed serious infections: every pair of a blood culture and a first antimicrobial.

    Args:
        stays: The contract's table.
        antibiotics: Columns as in ``ANTIBIOTICS``.
        cultures: Columns as in ``CULTURES``.
        options: The definition's parameters.

    Returns:
        ``SUSPICIONS`` and the culture's ``culture_day``, sorted.
    """
    courses = _add_course_start(_list_antimicrobial_days(antibiotics, options))
    starts = courses.filter(pl.col("course_start") == pl.col("day"))
    taken = _select_blood_cultures(cultures).join(_select_limits(stays), on="stay_id")
    is_near = pl.col("culture_day").is_between(
        pl.col("first_day") - WINDOW_DAYS, pl.col("last_day") + WINDOW_DAYS
    )
    near = taken.filter(is_near)
    parenteral = near.join(starts.filter("is_parenteral"), on="stay_id").filter(_in_window("day"))
    parenteral = parenteral.group_by("stay_id", "culture_day").agg(parenteral_known=_first_known())
    firsts = starts.select(
        "stay_id", pl.col("day").alias("first_qad"), antibiotic_time="time", dose_known="known"
    )
    pairs = near.join(firsts, on="stay_id").filter(_in_window("first_qad"))
    pairs = pairs.join(_complete_courses(courses, stays), on=["stay_id", "first_qad"])
    pairs = pairs.join(parenteral, on=["stay_id", "culture_day"])
    known = ("culture_known", "dose_known", "parenteral_known", "completed")
    infections = pairs.select(
        "stay_id",
        "antibiotic_time",
        "culture_time",
        "culture_day",
        time=pl.min_horizontal("antibiotic_time", "culture_time"),
        known_at=pl.max_horizontal(*known),
    )
    return infections.select(*SUSPICIONS, "culture_day").unique().sort(pl.all())


def count_records(
    antibiotics: pl.DataFrame, cultures: pl.DataFrame, options: Sepsis3Options
) -> dict[str, int]:
    """How many antimicrobials and blood cultures were used, and how many rows were excluded."""
    used = antibiotics.filter(_is_qualifying(options)).height
    of_blood = cultures.filter(_IS_BLOOD_CULTURE).height
    return {
        "antibiotics": used,
        "antibiotics excluded: group or route": antibiotics.height - used,
        "cultures": of_blood,
        "cultures excluded: not of blood": cultures.height - of_blood,
    }


def find_events(
    stays: pl.DataFrame,
    infections: pl.DataFrame,
    events: pl.DataFrame,
    treatments: pl.DataFrame,
    options: Sepsis3Options,
) -> pl.DataFrame:
    """The contract's episodes: of each stay the event that was known first.

    Args:
        stays: The contract's table.
        infections: As from ``find_infections``.
        events: The contract's table.
        treatments: The contract's table.
        options: The definition's parameters.
    """
    facts = _list_dysfunctions(events, treatments, options)
    found = infections.join(facts, on="stay_id", suffix="_organ").filter(_in_window("day"))
    found = found.join(_select_limits(stays), on="stay_id")
    onset = pl.min_horizontal("time", "time_organ")
    is_community = _day(onset) - pl.col("hospital_day") <= 1
    baseline = pl.col("baseline_day")
    has_baseline = baseline.is_null() | is_community | _in_window("baseline_day")
    candidates = found.filter(has_baseline & (pl.col("time_organ") <= pl.col("discharged_at")))
    dated = candidates.with_columns(onset=pl.max_horizontal(onset, "admitted_at"))
    dated = dated.with_columns(known_at=pl.max_horizontal("known_at", "known", "onset"))
    first = dated.sort("stay_id", "known_at", "onset").unique(
        "stay_id", keep="first", maintain_order=True
    )
    window = pl.duration(seconds=options.admission_window_hours * 3600)
    return first.with_columns(
        response=pl.lit(SEPSIS),
        end=_end(options),
        present_on_admission=pl.col("onset") <= pl.col("admitted_at") + window,
    ).select(pl.col(name).cast(dtype) for name, dtype in EPISODES.items())


def _end(options: Sepsis3Options) -> pl.Expr:
    """Null, or for ``fixed`` the time after ``end_days`` if it is not after discharge."""
    if options.end != "fixed":
        return pl.lit(None, dtype=TIME)
    end = pl.col("onset") + pl.duration(seconds=options.end_days * 86_400)
    return pl.when(end <= pl.col("discharged_at")).then(end)


def _day(time: pl.Expr) -> pl.Expr:
    """The number of the calendar day."""
    return time.dt.epoch("d").cast(pl.Int64)


def _midnight(day: str) -> pl.Expr:
    return pl.from_epoch(pl.col(day), "d").cast(TIME)


def _in_window(day: str) -> pl.Expr:
    return (pl.col(day) - pl.col("culture_day")).abs() <= WINDOW_DAYS


def _first_known() -> pl.Expr:
    return pl.col("known").min()


def _select_limits(stays: pl.DataFrame) -> pl.DataFrame:
    """When each stay begins and ends, with the days."""
    admitted = pl.col("admitted_at")
    return stays.select(
        *("stay_id", "admitted_at", "discharged_at"),
        first_day=_day(admitted),
        last_day=_day(pl.col("discharged_at")),
        hospital_day=_day(pl.min_horizontal("hospital_admitted_at", admitted)),
    )


def _select_blood_cultures(cultures: pl.DataFrame) -> pl.DataFrame:
    """(stay_id, culture_time, culture_day, culture_known) of blood cultures, with any result."""
    taken = pl.col("time") + pl.when("date_only").then(pl.duration(days=1)).otherwise(
        pl.duration(days=0)
    )
    return (
        cultures.filter(_IS_BLOOD_CULTURE)
        .select(
            "stay_id",
            culture_time="time",
            culture_day=_day(pl.col("time")),
            culture_known=pl.max_horizontal("known_at", taken),
        )
        .unique()
    )


def _split_into_days(rows: pl.DataFrame, start: str, end: str) -> pl.DataFrame:
    """One row per calendar day from start until before the end, with ``day``."""
    first = _day(pl.col(start))
    last = pl.max_horizontal(first, _day(pl.col(end) - pl.duration(microseconds=1)))
    return rows.with_columns(day=pl.int_ranges(first, last + 1)).explode("day")


def _is_qualifying(options: Sepsis3Options) -> pl.Expr:
    """Whether a row is of the chosen groups and routes."""
    groups = [name for name, drug in catalogue.drugs().items() if drug.group in options.groups]
    routes = [route.lower() for route in options.excluded_routes]
    return pl.col("drug").is_in(groups) & ~_ROUTE.is_in(routes).fill_null(value=False)


def _list_antimicrobial_days(antibiotics: pl.DataFrame, options: Sepsis3Options) -> pl.DataFrame:
    """(stay_id, drug, day, is_parenteral, known, time) of each day on which a drug was given.

    Vancomycin by mouth is another drug than vancomycin by vein. A day of an order with only dates
    is known when it is over, another one when it has begun.
    """
    rows = antibiotics.filter(_is_qualifying(options))
    by_mouth = (pl.col("drug") == "vancomycin") & (_ROUTE == "enteral").fill_null(value=False)
    rows = rows.with_columns(
        drug=pl.when(by_mouth).then(pl.lit("vancomycin by mouth")).otherwise("drug"),
        is_parenteral=_ROUTE.is_in(PARENTERAL).fill_null(value=True),
    )
    days = _split_into_days(rows, "time", "end")
    time = pl.max_horizontal("time", _midnight("day"))
    over = _midnight("day") + pl.duration(days=1)
    known = pl.max_horizontal("known_at", pl.when("date_only").then(over).otherwise(time))
    days = days.with_columns(time=time, known=known)
    keys = ["stay_id", "drug", "day", "is_parenteral", "known"]
    return days.group_by(keys).agg(pl.col("time").min())


def _add_given_before(days: pl.DataFrame, keys: list[str], look_back: int) -> pl.DataFrame:
    """Add ``given_1``, ``given_2``, ...: whether it was given that many days before.

    Only what was in the record when the row was counts.
    """
    by_day = days.group_by([*keys, "day"]).agg(_first_known())
    for before in range(1, look_back + 1):
        earlier = by_day.with_columns(pl.col("day") + before).rename({"known": "_earlier"})
        is_given = (pl.col("_earlier") <= pl.col("known")).fill_null(value=False)
        days = days.join(earlier, on=[*keys, "day"], how="left")
        days = days.with_columns(is_given.alias(f"given_{before}")).drop("_earlier")
    return days


def _add_course_start(days: pl.DataFrame) -> pl.DataFrame:
    """Add the day on which the drug's course began, without two days in a row free of it."""
    days = _add_given_before(days, ["stay_id", "drug"], LOOK_BACK_DAYS)
    length = pl.lit(0)
    for before in range(1, LOOK_BACK_DAYS + 1):
        continues = pl.col(f"given_{before}") & (length >= before - 2)
        length = pl.when(continues).then(before).otherwise(length)
    return days.with_columns(course_start=pl.col("day") - length)


def _complete_courses(courses: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """(stay_id, first_qad, completed): when four qualifying days in a row, or death, were known.

    Days count of drugs whose course did not begin before the first of them. Death within the four
    days replaces those from the day of death or the day before on.
    """
    columns = ["stay_id", "day", "known", "course_start"]
    gaps = courses.filter(pl.col("given_2") & ~pl.col("given_1"))
    gaps = gaps.with_columns(pl.col("day") - 1)
    covered = pl.concat([courses.select(columns), gaps.select(columns)])
    is_start = pl.col("course_start") == pl.col("day")
    starts = courses.filter(is_start).select("stay_id", first_qad="day").unique()
    number = pl.col("day") - pl.col("first_qad")
    own = starts.join(covered, on="stay_id").filter(
        number.is_between(0, QUALIFYING_DAYS - 1) & (pl.col("course_start") >= pl.col("first_qad"))
    )
    known_of = [
        pl.col("known").filter(number == n).min().alias(f"known_{n}")
        for n in range(QUALIFYING_DAYS)
    ]
    days = own.group_by("stay_id", "first_qad").agg(known_of)
    days = days.join(stays.select("stay_id", "died_at"), on="stay_id")
    survived = _day(pl.col("died_at")) - pl.col("first_qad")
    is_early = survived.is_between(0, QUALIFYING_DAYS - 1)
    by_death = _known_of_days(pl.max_horizontal(survived, pl.lit(1)))
    died = pl.when(is_early).then(_later_of(by_death, pl.col("died_at")))
    completed = pl.min_horizontal(_known_of_days(pl.lit(QUALIFYING_DAYS)), died)
    return days.select("stay_id", "first_qad", completed=completed).drop_nulls()


def _known_of_days(needed: pl.Expr) -> pl.Expr:
    """When the first days were known, as many as needed; null if one of them is missing."""
    names = [f"known_{n}" for n in range(QUALIFYING_DAYS)]
    is_complete = pl.all_horizontal(
        pl.col(name).is_not_null() | (needed <= n) for n, name in enumerate(names)
    )
    known = [pl.when(needed > n).then(pl.col(name)) for n, name in enumerate(names)]
    return pl.when(is_complete).then(pl.max_horizontal(known))


def _later_of(first: pl.Expr, second: pl.Expr) -> pl.Expr:
    """The later of two times; null if one of them is."""
    return pl.when(first.is_not_null() & second.is_not_null()).then(
        pl.max_horizontal(first, second)
    )


def _list_dysfunctions(
    events: pl.DataFrame, treatments: pl.DataFrame, options: Sepsis3Options
) -> pl.DataFrame:
    """The organ dysfunctions, with columns ``FACTS``."""
    value, lowest = pl.col("value"), pl.col("value_baseline")
    creatinine = _drop_after_dialysis(_select_values(events, "crea"), events)
    bilirubin, platelets = _select_values(events, "bili"), _select_values(events, "plt")
    has_halved = (value < 100) & (lowest >= 100) & (value <= lowest / 2)
    found = [
        _select_new_vasopressors(treatments),
        _select_new_ventilation(events),
        _compare_with_baseline(creatinine, value >= 2 * lowest),
        _compare_with_baseline(bilirubin, (value >= 2.0) & (value >= 2 * lowest)),
        _compare_with_baseline(platelets, has_halved),
    ]
    if options.ase_lactate:
        found.append(_select_values(events, "lact").filter(value >= 2.0))
    empty = pl.DataFrame(schema=FACTS)
    facts = [rows.select(pl.col(name) for name in FACTS if name in rows.columns) for rows in found]
    return pl.concat([empty, *facts], how="diagonal").unique()


def _select_values(events: pl.DataFrame, variable: str) -> pl.DataFrame:
    """(stay_id, time, day, known, value) of the variable."""
    return events.filter(variable=variable).select(
        "stay_id",
        "time",
        "value",
        day=_day(pl.col("time")),
        known=pl.max_horizontal("known_at", "time"),
    )


def _compare_with_baseline(values: pl.DataFrame, is_worse: pl.Expr) -> pl.DataFrame:
    """The values that are worse than another value of the stay, with the other's day."""
    pairs = values.join(values, on="stay_id", suffix="_baseline").filter(is_worse)
    return pairs.with_columns(
        known=pl.max_horizontal("known", "known_baseline"), baseline_day="day_baseline"
    )


def _drop_after_dialysis(values: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The values that were known before the record showed renal replacement therapy."""
    runs = _select_values(events, "rrt").filter(pl.col("value") == 1)
    since = runs.group_by("stay_id").agg(dialysis_known=_first_known())
    is_after = (pl.col("dialysis_known") <= pl.col("known")).fill_null(value=False)
    return values.join(since, on="stay_id", how="left").filter(~is_after).drop("dialysis_known")


def _select_new_vasopressors(treatments: pl.DataFrame) -> pl.DataFrame:
    """The starts of vasopressors that did not run in the calendar day before."""
    is_infusion = (pl.col("end") > pl.col("start")) & (pl.col("dose").fill_null(1.0) > 0)
    rows = treatments.filter(is_infusion & pl.col("drug").is_in(VASOPRESSORS))
    days = _split_into_days(rows, "start", "end").with_columns(time="start")
    known = pl.max_horizontal("known_at", "start", _midnight("day"))
    days = _add_given_before(days.with_columns(known=known), ["stay_id", "drug"], 1)
    return days.filter(~pl.col("given_1") & (_day(pl.col("start")) == pl.col("day")))


def _select_new_ventilation(events: pl.DataFrame) -> pl.DataFrame:
    """The ventilation that was not charted in the calendar day before."""
    runs = _select_values(events, "vent").filter(pl.col("value") == 1)
    return _add_given_before(runs, ["stay_id"], 1).filter(~pl.col("given_1"))
