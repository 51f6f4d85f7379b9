"""Some stays of the ward on a calendar of their own: ids, a chart system, and the state of the body by the hour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from flowsheet.cohort.sources.base import StayBatch
from flowsheet.mimic_export.items import HABITS, Quantity, quantities
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.typing import Bools, Floats, Ints, Times

FIRST_DAY = np.datetime64("2100-01-01T00:00:00", "us")
YEARS = 100
"""Subjects are scattered over a century, as in MIMIC-III."""
FALLBACK = {
    "hr": 85,
    "map": 80,
    "sbp": 122,
    "resp": 18,
    "temp": 37,
    "o2sat": 97,
    "gcs": 14,
    "lact": 1.3,
    "wbc": 9.5,
}
FALLBACK |= {"crea": 1.0, "bun": 20, "bili": 0.8, "plt": 205, "glu": 128}
"""Levels of stays of which the ward measured nothing."""


@dataclass(frozen=True)
class Patients:
    """S stays with D days in all; stays in ascending order of the ward's stay_id."""

    stays: pl.DataFrame  # the ward's, with the raw ids and times beside
    habit: Ints  # (S,)
    metavision: Bools  # (S,)
    start: Times  # (S,) begin of the first charted day, a whole hour
    day_stay: Ints  # (D,)
    day_start: Times  # (D,)
    level: Floats  # (Q, D) by the order of quantities()
    septic: Floats  # (D, 24) 1 in septic hours

    def some(self, which: Bools) -> Patients:
        """The stays where ``which`` (S,) is true."""
        renumbered = replace(
            self,
            stays=self.stays.filter(pl.Series(which)),
            habit=self.habit[which],
            metavision=self.metavision[which],
            start=self.start[which],
            day_stay=np.cumsum(which)[self.day_stay] - 1,
        )
        return renumbered._in_order(np.flatnonzero(which[self.day_stay]))

    def in_fragments(self, rng: np.random.Generator) -> Patients:
        """The days in another order: a stay's later ones come after everybody's earlier ones, as in the real files."""
        day = (self.day_start - self.start[self.day_stay]) // np.timedelta64(1, "D")
        cut = rng.integers(1, 9, len(self.start))
        return self._in_order(np.lexsort((day, self.day_stay, day >= cut[self.day_stay])))

    def _in_order(self, days: Ints) -> Patients:
        return replace(
            self,
            day_stay=self.day_stay[days],
            day_start=self.day_start[days],
            level=self.level[:, days],
            septic=self.septic[days],
        )


def admit(batch: StayBatch, options: ExportOptions, rng: np.random.Generator) -> Patients:
    """Give the stays of a batch ids, dates and a body. A subject's stays must all be in the batch."""
    stays = _identified(batch.stays, options, rng)
    days = stays["_days"].to_numpy()
    day_stay = np.repeat(np.arange(len(days)), days)
    day = np.arange(len(day_stay)) - np.repeat(np.cumsum(days) - days, days)
    start = stays["_start"].to_numpy()
    day_start = start[day_stay] + day.astype("timedelta64[D]")
    return Patients(
        stays=stays,
        habit=rng.integers(0, HABITS, len(days)),
        metavision=stays["dbsource"].to_numpy() == "metavision",
        start=start,
        day_stay=day_stay,
        day_start=day_start,
        level=_levels(batch, stays, day_stay, day, rng),
        septic=_septic_hours(batch, stays, day_stay, day),
    )


def scrambled(ids: pl.Expr, base: int, factor: int) -> pl.Expr:
    """Other ids, one to one, in no telling order: five digits' worth as in MIMIC-III while they suffice."""
    small = base + (ids * factor) % 99_991
    return pl.when(ids < 99_991).then(small).otherwise(base + 1_000_000 + ids)


def _identified(
    stays: pl.DataFrame, options: ExportOptions, rng: np.random.Generator
) -> pl.DataFrame:
    """Ids and times: columns of ICUSTAYS and ADMISSIONS in lower case; ``_start`` is when charting begins."""
    n = stays.height
    subject = stays["subject_id"].to_numpy()
    first = np.searchsorted(stays["stay_id"].to_numpy(), subject)
    again = stays["stay_id"].to_numpy() != subject
    joined = again & (rng.random(n) < options.same_admission)
    days = (stays["discharged_at"] - stays["admitted_at"]).dt.total_days().to_numpy()
    shift = rng.integers(0, YEARS * 365, n)[first] * 24 + rng.integers(0, 24, n)[first]
    gap = np.where(joined, rng.integers(6, 96, n), rng.integers(7 * 24, 90 * 24, n))
    hours = shift + np.where(again, days[first] * 24 + gap, 0)
    start = FIRST_DAY + hours.astype("timedelta64[h]")
    end = start + days.astype("timedelta64[D]")
    late = np.where(
        rng.random(n) < options.outside_stay, rng.integers(1, 91, n), -rng.integers(1, 30, n)
    )
    early = np.where(late > 0, late, -rng.integers(1, 30, n))
    born = (rng.random(n) < options.newborns)[first] & ~again
    return stays.with_columns(
        pl.Series("_start", start),
        pl.Series("_days", days),
        pl.Series("_born", born[first]),
        pl.Series("_joined", joined),
        pl.Series(
            "intime",
            start
            + early.astype("timedelta64[m]")
            + rng.integers(0, 60, n).astype("timedelta64[s]"),
        ),
        pl.Series(
            "outtime",
            end - late.astype("timedelta64[m]") + rng.integers(0, 60, n).astype("timedelta64[s]"),
        ),
        pl.Series(
            "dbsource", np.where(rng.random(n)[first] < options.carevue, "carevue", "metavision")
        ),
        raw_subject=scrambled(pl.col("subject_id"), 1, 61_843),
        hadm_id=scrambled(
            pl.when(pl.Series(joined)).then("subject_id").otherwise("stay_id"), 100_001, 52_919
        ),
        icustay_id=scrambled(pl.col("stay_id"), 200_001, 78_539),
    )


def _levels(
    batch: StayBatch, stays: pl.DataFrame, day_stay: Ints, day: Ints, rng: np.random.Generator
) -> Floats:
    """(Q, D): what each quantity stood at on each day."""
    wards = _ward_levels(batch, stays, day_stay, day)
    body = rng.standard_normal((len(quantities()), stays.height))
    return np.stack(
        [_level(q, wards, own[day_stay]) for q, own in zip(quantities(), body, strict=True)]
    )


def _level(about: Quantity, wards: dict[str, Floats], own: Floats) -> Floats:
    if about.ward is None:
        return np.asarray(about.offset + about.spread * own)
    return about.offset + about.gain * wards[about.ward]


def _ward_levels(
    batch: StayBatch, stays: pl.DataFrame, day_stay: Ints, day: Ints
) -> dict[str, Floats]:
    """The ward's own readings: a day's mean, else the stay's, else a usual value."""
    here = stays.select("stay_id", "admitted_at", stay=pl.int_range(pl.len()))
    minutes = (pl.col("time") - pl.col("admitted_at")).dt.total_minutes()
    events = batch.events.join(here, on="stay_id").with_columns(day=(minutes - 1) // 1440)
    by_day = events.group_by("stay", "day", "variable").agg(pl.col("value").mean())
    by_stay = events.group_by("stay", "variable").agg(pl.col("value").mean().alias("usual"))
    grid = pl.DataFrame({"stay": day_stay, "day": day})
    levels = {}
    for name, fallback in FALLBACK.items():
        found = grid.join(
            by_day.filter(variable=name), on=["stay", "day"], how="left", maintain_order="left"
        )
        found = found.join(
            by_stay.filter(variable=name), on="stay", how="left", maintain_order="left"
        )
        levels[name] = (
            found.select(pl.coalesce("value", "usual", pl.lit(float(fallback))))
            .to_series()
            .to_numpy()
        )
    return levels


def _septic_hours(batch: StayBatch, stays: pl.DataFrame, day_stay: Ints, day: Ints) -> Floats:
    """(D, 24): 1 in the hours of an episode."""
    spans = episodes(batch, stays)
    hour = np.zeros((len(day_stay), 24))
    first = np.searchsorted(day_stay, np.arange(stays.height))
    for stay, begin, end in spans.select("stay", "_from", "_to").iter_rows():
        hour.reshape(-1)[first[stay] * 24 + begin : first[stay] * 24 + end] = 1
    return hour


def episodes(batch: StayBatch, stays: pl.DataFrame) -> pl.DataFrame:
    """The ward's episodes on the raw calendar: stay (position), onset, end (null: not over); hours _from and _to."""
    here = stays.select(
        "stay_id",
        "icustay_id",
        "admitted_at",
        "discharged_at",
        "_start",
        "_days",
        stay=pl.int_range(pl.len()),
    )
    moved = pl.col("_start") - pl.col("admitted_at")
    hours = (pl.col("onset", "end") - pl.col("_start")).dt.total_hours()
    found = batch.episodes.join(here, on="stay_id", maintain_order="left")
    found = found.with_columns(pl.col("onset", "end", "known_at") + moved).with_columns(
        hours.name.map({"onset": "_from", "end": "_to"}.__getitem__)
    )
    return found.with_columns(_to=pl.coalesce("_to", pl.col("_days") * 24))
