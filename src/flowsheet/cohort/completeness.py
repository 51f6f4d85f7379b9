"""What a source cannot do without: tables with a usable row, and variables with a value.

An export that stopped early leaves tables with a header and nothing else. Without cultures there is
no sepsis, and without one organ's measurements every score is too low: such an extract is refused,
or with ``allow_empty`` it has a warning that stays in its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Needs:
    """Groups of which at least one member must have a row, by what the group is for."""

    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Raw tables, as in ``StayBatch.rows_read``."""
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of ``StayBatch.source_counts``."""


SEPSIS3_NEEDS = Needs(
    variables={
        "the SOFA score of respiration": ("po2", "o2sat", "vent", "fio2"),
        "the SOFA score of coagulation": ("plt",),
        "the SOFA score of the liver": ("bili",),
        "the SOFA score of circulation": ("map",),
        "the SOFA score of the brain": ("gcs", "egcs", "mgcs", "vgcs"),
        "the SOFA score of the kidneys": ("crea", "urine"),
    },
    counts={
        "suspected infection": ("cultures",),
        "the treatment of infection": ("antibiotics",),
    },
)
"""What the label Sepsis-3 cannot do without."""

HOURLY_NEEDS = Needs(variables={"every hour of intensive care": ("hr", "map", "sbp", "o2sat")})
"""What hourly records of intensive care cannot be without: a monitor's vital signs."""


def find_gaps(
    needs: Needs,
    rows_read: Mapping[str, int],
    variables: set[str],
    counts: Mapping[str, int],
) -> list[str]:
    """What is missing, one sentence each.

    Args:
        needs: what the source cannot do without.
        rows_read: usable rows of each raw table.
        variables: the variables with a value.
        counts: the counts of the source.

    >>> needs = Needs(variables={"the SOFA score of the liver": ("bili",)})
    >>> find_gaps(needs, {}, {"hr"}, {})
    ['no stay has a value of bili, which the SOFA score of the liver needs']
    """
    gaps = [
        f"no row of {' or '.join(map(str.upper, tables))} can be used, which {purpose} needs"
        for purpose, tables in needs.tables.items()
        if not any(rows_read.get(table) for table in tables)
    ]
    gaps += [
        f"no stay has a value of {' or '.join(names)}, which {purpose} needs"
        for purpose, names in needs.variables.items()
        if variables.isdisjoint(names)
    ]
    gaps += [
        f"no stay has {' or '.join(names)}, which {purpose} needs"
        for purpose, names in needs.counts.items()
        if not any(counts.get(name) for name in names)
    ]
    return gaps
