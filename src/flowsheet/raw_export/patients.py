"""Stays of the simulated ward as patients of the database.

They get ids, dates, a chart system, and the level of each quantity on each day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from flowsheet.cohort.sources.base import StayBatch
from flowsheet.raw_export.items import N_CHARTING_STYLES, Quantity, load_quantities
from flowsheet.raw_export.options import ExportOptions
from flowsheet.typing import Bools, Floats, Ints, Times

_FIRST_DAY = np.datetime64("2100-01-01T00:00:00", "us")
_YEARS = 100
"""Admissions are spread over a century, as in MIMIC-III."""
_DEFAULT_LEVELS = {
    **{"hr": 85, "map": 80, "sbp": 122, "resp": 18, "temp": 37, "o2sat": 97, "gcs": 14},
    **{"lact": 1.3, "wbc": 9.5, "crea": 1.0, "bun": 20, "bili": 0.8, "plt": 205, "glu": 128},
}
"""Levels in stays in which the ward did not measure the variable."""
_N_SMALL_IDS = 99_991
"""A prime: multiplying ids modulo it gives other ids, one to one."""


@dataclass(frozen=True)
class Patients:
    """S stays, ascending by the ward's stay_id, with D days in all and Q quantities."""

    stays: pl.DataFrame
    """The ward's stays, with the database's ids and times; see ``_identify``."""
    charting_style: Ints
    """(S,)"""
    is_metavision: Bools
    """(S,)"""
    start: Times
    """(S,) start of the first charted day, on the hour."""
    day: Ints
    """(D,) position among the days of all stays of the block."""
    day_stay: Ints
    """(D,) position of the day's stay."""
    day_start: Times
    """(D,)"""
    level: Floats
    """(Q, D) in the order of ``load_quantities()``."""
    septic: Floats
    """(D, 24) 1 in the hours of an episode of sepsis."""

    def select(self, is_selected: Bools) -> Patients:
        """The stays where ``is_selected`` (S,) is true."""
        selected = replace(
            self,
            stays=self.stays.filter(pl.Series(is_selected)),
            charting_style=self.charting_style[is_selected],
            is_metavision=self.is_metavision[is_selected],
            start=self.start[is_selected],
            day_stay=np.cumsum(is_selected)[self.day_stay] - 1,
        )
        return selected._reorder_days(np.flatnonzero(is_selected[self.day_stay]))

    def split_days(self, rng: np.random.Generator) -> Patients:
        """Reorder the days: the first days of all stays, then their later days.

        In the real files, too, the rows of a stay are in two places far apart.
        """
        day = (self.day_start - self.start[self.day_stay]) // np.timedelta64(1, "D")
        n_first_days = rng.integers(1, 9, len(self.start))
        is_later = day >= n_first_days[self.day_stay]
        return self._reorder_days(np.lexsort((day, self.day_stay, is_later)))

    def _reorder_days(self, order: Ints) -> Patients:
        return replace(
            self,
            day=self.day[order],
            day_stay=self.day_stay[order],
            day_start=self.day_start[order],
            level=self.level[:, order],
            septic=self.septic[order],
        )


def make_patients(batch: StayBatch, options: ExportOptions, rng: np.random.Generator) -> Patients:
    """Make patients of the stays of a batch, which must contain all stays of its subjects."""
    stays = _identify(batch.stays, options, rng)
    n_days = stays["n_days"].to_numpy()
    day_stay = np.repeat(np.arange(len(n_days)), n_days)
    day = np.arange(len(day_stay)) - np.repeat(np.cumsum(n_days) - n_days, n_days)
    start = stays["charting_start"].to_numpy()
    return Patients(
        stays=stays,
        charting_style=rng.integers(0, N_CHARTING_STYLES, len(n_days)),
        is_metavision=stays["dbsource"].to_numpy() == "metavision",
        start=start,
        day=np.arange(len(day_stay)),
        day_stay=day_stay,
        day_start=start[day_stay] + day.astype("timedelta64[D]"),
        level=_draw_levels(batch, stays, day_stay, day, rng),
        septic=_mark_septic_hours(batch, stays, day_stay),
    )


def scramble_ids(ids: pl.Expr, base: int, factor: int) -> pl.Expr:
    """Other ids, one to one, whose order means nothing; five digits while these suffice.

    Args:
        ids: the ward's ids.
        base: the smallest new id.
        factor: a number less than 99,991.
    """
    small = base + (ids * factor) % _N_SMALL_IDS
    return pl.when(ids < _N_SMALL_IDS).then(small).otherwise(base + 1_000_000 + ids)


def _identify(
    stays: pl.DataFrame, options: ExportOptions, rng: np.random.Generator
) -> pl.DataFrame:
    """Add the database's ids and times to the ward's stays.

    Returns:
        The stays with raw_subject, hadm_id, icustay_id, dbsource, intime and outtime as in the
        database; ``charting_start`` and ``n_days``; ``is_newborn``, and ``shares_admission`` for a
        second stay of the same hospital admission.
    """
    n = stays.height
    subject = stays["subject_id"].to_numpy()
    first_stay = np.searchsorted(stays["stay_id"].to_numpy(), subject)
    is_second_stay = stays["stay_id"].to_numpy() != subject
    shares_admission = is_second_stay & (rng.random(n) < options.same_admission)
    n_days = (stays["discharged_at"] - stays["admitted_at"]).dt.total_days().to_numpy()
    day_shift = rng.integers(0, _YEARS * 365, n)[first_stay]
    hour_shift = rng.integers(0, 24, n)[first_stay]
    short_gap = rng.integers(6, 96, n)
    long_gap = rng.integers(7 * 24, 90 * 24, n)
    gap = n_days[first_stay] * 24 + np.where(shares_admission, short_gap, long_gap)
    hours = day_shift * 24 + hour_shift + np.where(is_second_stay, gap, 0)
    start = _FIRST_DAY + hours.astype("timedelta64[h]")
    end = start + n_days.astype("timedelta64[D]")
    # Minutes by which the charted days begin before the stay, and end after it.
    is_outside = rng.random(n) < options.outside_stay
    minutes_outside = rng.integers(1, 91, n)
    minutes_after = np.where(is_outside, minutes_outside, -rng.integers(1, 30, n))
    minutes_before = np.where(minutes_after > 0, minutes_after, -rng.integers(1, 30, n))
    is_newborn = ((rng.random(n) < (options.newborns or 0))[first_stay] & ~is_second_stay)[
        first_stay
    ]
    admitted = start + minutes_before.astype("timedelta64[m]")
    admitted += rng.integers(0, 60, n).astype("timedelta64[s]")
    discharged = end - minutes_after.astype("timedelta64[m]")
    discharged += rng.integers(0, 60, n).astype("timedelta64[s]")
    is_carevue = rng.random(n)[first_stay] < (options.carevue or 0)
    admission = pl.when(pl.Series(shares_admission)).then("subject_id").otherwise("stay_id")
    return stays.with_columns(
        pl.Series("charting_start", start),
        pl.Series("n_days", n_days),
        pl.Series("is_newborn", is_newborn),
        pl.Series("shares_admission", shares_admission),
        pl.Series("intime", admitted),
        pl.Series("outtime", discharged),
        pl.Series("dbsource", np.where(is_carevue, "carevue", "metavision")),
        raw_subject=scramble_ids(pl.col("subject_id"), 1, 61_843),
        hadm_id=scramble_ids(admission, 100_001, 52_919),
        icustay_id=scramble_ids(pl.col("stay_id"), 200_001, 78_539),
    )


def _draw_levels(
    batch: StayBatch, stays: pl.DataFrame, day_stay: Ints, day: Ints, rng: np.random.Generator
) -> Floats:
    """(Q, D) levels of the quantities on each day.

    Args:
        batch: the ward's events.
        stays: (S,) the stays.
        day_stay: (D,) position of the day's stay.
        day: (D,) number of the day in its stay.
        rng: random numbers.
    """
    simulated = _average_levels(batch, stays, day_stay, day)
    deviations = rng.standard_normal((len(load_quantities()), stays.height))
    levels = [
        _compute_level(quantity, simulated, deviation[day_stay])
        for quantity, deviation in zip(load_quantities(), deviations, strict=True)
    ]
    return np.stack(levels)


def _compute_level(quantity: Quantity, simulated: dict[str, Floats], deviation: Floats) -> Floats:
    if quantity.simulated_variable is None:
        return np.asarray(quantity.offset + quantity.stay_sd * deviation)
    return quantity.offset + quantity.gain * simulated[quantity.simulated_variable]


def _average_levels(
    batch: StayBatch, stays: pl.DataFrame, day_stay: Ints, day: Ints
) -> dict[str, Floats]:
    """(D,) levels of the ward's variables: the day's mean, else the stay's, else the default.

    Args:
        batch: the ward's events.
        stays: (S,) the stays.
        day_stay: (D,) position of the day's stay.
        day: (D,) number of the day in its stay.
    """
    positions = stays.select("stay_id", "admitted_at", stay=pl.int_range(pl.len()))
    minutes = (pl.col("time") - pl.col("admitted_at")).dt.total_minutes()
    events = batch.events.join(positions, on="stay_id").with_columns(day=(minutes - 1) // 1440)
    day_means = events.group_by("stay", "day", "variable").agg(pl.col("value").mean())
    stay_means = events.group_by("stay", "variable").agg(stay_value=pl.col("value").mean())
    days = pl.DataFrame({"stay": day_stay, "day": day})
    levels = {}
    for variable, default in _DEFAULT_LEVELS.items():
        joined = days.join(
            day_means.filter(variable=variable),
            on=["stay", "day"],
            how="left",
            maintain_order="left",
        ).join(stay_means.filter(variable=variable), on="stay", how="left", maintain_order="left")
        level = pl.coalesce("value", "stay_value", pl.lit(float(default)))
        levels[variable] = joined.select(level).to_series().to_numpy()
    return levels


def _mark_septic_hours(batch: StayBatch, stays: pl.DataFrame, day_stay: Ints) -> Floats:
    """(D, 24): 1 in the hours of an episode."""
    episodes = shift_episodes(batch, stays)
    septic = np.zeros((len(day_stay), 24))
    hours = septic.reshape(-1)
    first_day = np.searchsorted(day_stay, np.arange(stays.height))
    for stay, start, end in episodes.select("stay", "start_hour", "end_hour").iter_rows():
        first_hour = first_day[stay] * 24
        hours[first_hour + start : first_hour + end] = 1
    return septic


def shift_episodes(batch: StayBatch, stays: pl.DataFrame) -> pl.DataFrame:
    """The ward's episodes of sepsis at the database's dates.

    Returns:
        stay (position), onset, end (null: not over) and known_at; ``start_hour`` and ``end_hour``
        are counted from the start of charting; and columns of the stays.
    """
    columns = ["stay_id", "icustay_id", "admitted_at", "discharged_at", "charting_start", "n_days"]
    positions = stays.select(*columns, stay=pl.int_range(pl.len()))
    shift = pl.col("charting_start") - pl.col("admitted_at")
    episodes = batch.episodes.join(positions, on="stay_id", maintain_order="left")
    episodes = episodes.with_columns(pl.col("onset", "end", "known_at") + shift)
    start_hour = (pl.col("onset") - pl.col("charting_start")).dt.total_hours()
    end_hour = (pl.col("end") - pl.col("charting_start")).dt.total_hours()
    last_hour = pl.col("n_days") * 24
    return episodes.with_columns(start_hour=start_hour, end_hour=pl.coalesce(end_hour, last_hour))
