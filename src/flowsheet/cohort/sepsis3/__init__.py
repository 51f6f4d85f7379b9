"""Sepsis-3 out of a batch of stays: suspicion of infection, SOFA hour by hour, onset, episodes, and
when it was known.

Every rule with its default and source is in docs/sepsis3.md; every parameter is a field of
``Sepsis3Options``.

The label never looks ahead: which episodes are known by a time t, with their onsets, and which of
those have ended by t, depends only on facts with known_at <= t.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.sepsis3 import onset, sofa, suspicion
from flowsheet.cohort.sepsis3.frames import (
    ANTIBIOTICS,
    COMPONENTS,
    CULTURES,
    SOFA,
    SUSPICIONS,
    Sepsis3Labels,
)
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import Sepsis3Options

__all__ = [
    "ANTIBIOTICS",
    "COMPONENTS",
    "CULTURES",
    "SOFA",
    "SUSPICIONS",
    "Sepsis3Labels",
    "Sepsis3Options",
    "label",
]


def label(  # noqa: PLR0917 - the contract's tables, what else the record holds, the choices
    stays: pl.DataFrame,
    events: pl.DataFrame,
    treatments: pl.DataFrame,
    antibiotics: pl.DataFrame,
    cultures: pl.DataFrame,
    options: Sepsis3Options,
) -> Sepsis3Labels:
    """Label some whole stays.

    ``stays``, ``events`` and ``treatments`` are the contract's tables (events already clean, in any
    order; values outside the plausible range should be gone), ``antibiotics`` and ``cultures`` have
    the columns ``ANTIBIOTICS`` and ``CULTURES``. Of the events these are read, all of them
    optional: ``map``, ``gcs`` (or ``egcs``, ``mgcs`` and ``vgcs`` charted at one time), ``po2``
    (arterial), ``fio2`` in percent, ``vent`` (1: mechanically ventilated, 0: not, as often as it is
    charted), ``bili``, ``crea``, ``plt``, ``urine``. Of the treatments, those that run (end after
    start): norepinephrine, epinephrine, dopamine, dobutamine in mcg/kg per hour.
    """
    grid = HourlyGrid.of(stays)
    scores, known = sofa.hourly(grid, events, treatments, options)
    changed = sofa.change(grid, scores, known, options)
    score = changed if options.criterion == "rise" else sofa.total(scores)
    given, counts = suspicion.doses(grid, antibiotics, options)
    treated, confirming = suspicion.confirmed(grid, given, options)
    taken, drawn = suspicion.cultures_taken(grid, cultures, options)
    suspected = suspicion.suspicions(grid, treated, taken, options)
    episodes = onset.episodes(grid, suspected, score, given, options)
    found = {
        "stays": len(grid.stay_id),
        "times of suspicion": suspected.height,
        "stays with suspected infection": suspected["stay_id"].n_unique(),
        "episodes": episodes.height,
        "stays with an episode": episodes["stay_id"].n_unique(),
        "days": int((-(-grid.lengths // 24)).sum()),
        "septic days": onset.septic_days(grid, episodes),
    }
    return Sepsis3Labels(
        episodes,
        suspected,
        sofa.table(grid, scores, known, changed),
        counts | confirming | drawn | found,
    )
