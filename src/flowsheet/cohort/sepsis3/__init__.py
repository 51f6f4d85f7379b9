"""Sepsis-3 labels for a batch of stays: suspicion of infection, hourly SOFA, onset and episodes.

docs/sepsis3.md gives every rule with its default and source; every parameter is a field of
``Sepsis3Options``.

The label never looks ahead: which episodes are known by a time t, with their onsets, and which of
them have ended by t, depends only on facts with known_at <= t.
"""

from __future__ import annotations

from flowsheet.cohort.sepsis3 import adult_sepsis_event, onset, sofa, sofa2, suspicion
from flowsheet.cohort.sepsis3.frames import (
    ANTIBIOTICS,
    COMPONENTS,
    CULTURES,
    SEPSIS,
    SOFA,
    SUSPICIONS,
    LabelInputs,
    Sepsis3Labels,
)
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.options import ADULT_SEPSIS_EVENT, Sepsis3Options

__all__ = [
    "ANTIBIOTICS",
    "COMPONENTS",
    "CULTURES",
    "SEPSIS",
    "SOFA",
    "SUSPICIONS",
    "LabelInputs",
    "Sepsis3Labels",
    "Sepsis3Options",
    "label",
]


def label(inputs: LabelInputs, options: Sepsis3Options) -> Sepsis3Labels:
    """Label whole stays. Rows of every table may be in any order.

    Returns:
        The episodes, and the suspicions, scores and counts from which they follow.
    """
    stays, events, treatments = inputs.stays, inputs.events, inputs.treatments
    antibiotics, cultures = inputs.antibiotics, inputs.cultures
    grid = HourlyGrid.from_stays(stays)
    organs = sofa2 if options.score == "sofa2" else sofa
    scores = organs.grade_organs(grid, events, treatments, options)
    change = sofa.change_since_baseline(grid, scores, options)
    if options.definition == ADULT_SEPSIS_EVENT:
        infections = adult_sepsis_event.find_infections(stays, antibiotics, cultures, options)
        episodes = adult_sepsis_event.find_events(stays, infections, events, treatments, options)
        suspicions = infections.sort("stay_id", "time", "known_at").select(list(SUSPICIONS))
        suspicions = suspicions.unique(["stay_id", "time"], keep="first", maintain_order=True)
        record_counts = adult_sepsis_event.count_records(antibiotics, cultures, options)
    else:
        criterion_score = change if options.criterion == "rise" else sofa.total_score(scores)
        doses, antibiotic_counts = suspicion.select_doses(grid, antibiotics, options)
        confirmed, dose_counts = suspicion.select_confirmed(grid, doses, options)
        taken, culture_counts = suspicion.select_cultures(grid, cultures, options)
        suspicions = suspicion.find_suspicions(grid, confirmed, taken, options)
        episodes = onset.find_episodes(grid, suspicions, criterion_score, doses, options)
        record_counts = antibiotic_counts | dose_counts | culture_counts
    counts = {
        "stays": len(grid.stay_id),
        "times of suspicion": suspicions.height,
        "stays with suspected infection": suspicions["stay_id"].n_unique(),
        "episodes": episodes.height,
        "stays with an episode": episodes["stay_id"].n_unique(),
        "days": int((-(-grid.lengths // 24)).sum()),
        "septic days": onset.count_septic_days(grid, episodes),
    }
    return Sepsis3Labels(
        episodes=episodes,
        suspicions=suspicions,
        sofa=sofa.score_table(grid, scores, change),
        counts=record_counts | counts,
    )
