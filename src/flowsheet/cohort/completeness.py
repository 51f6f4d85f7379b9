"""What a source cannot do without: tables with a usable row, and variables with a value.

An export that stopped early leaves tables with a header and nothing else. Without cultures there is
no sepsis, and without one organ's measurements every score is too low: such an extract is refused,
or with ``allow_empty`` it has a warning that stays in its manifest. What it can do without, and
lacks, is always a warning; a core variable and a component of the SOFA score come first, whatever
the source is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Needs:
    """Groups of which at least one member must have a row, by what the group is for."""

    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tables of the contract, or raw tables as in ``StayBatch.rows_read``."""
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of ``StayBatch.source_counts``."""
    stay_columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns of stays."""


_INFECTION = {
    "suspected infection": ("cultures",),
    "the treatment of infection": ("antibiotics",),
}

_SOFA_OF = "the SOFA score of "

SEPSIS3_NEEDS = Needs(
    variables={
        f"{_SOFA_OF}respiration": ("po2", "o2sat", "vent", "fio2"),
        f"{_SOFA_OF}coagulation": ("plt",),
        f"{_SOFA_OF}the liver": ("bili",),
        f"{_SOFA_OF}circulation": ("map",),
        f"{_SOFA_OF}the brain": ("gcs", "egcs", "mgcs", "vgcs"),
        f"{_SOFA_OF}the kidneys": ("crea", "urine"),
    },
    counts=_INFECTION,
)
"""What the label Sepsis-3 cannot do without."""

ADULT_SEPSIS_EVENT_NEEDS = Needs(
    variables={
        "organ dysfunction of the kidneys": ("crea",),
        "organ dysfunction of the liver": ("bili",),
        "organ dysfunction of coagulation": ("plt",),
    },
    counts=_INFECTION,
)
"""What the Adult Sepsis Event cannot do without. Lactate is measured where shock is suspected, and
ventilation and vasopressors where they are needed: their absence is no gap of the records."""


def needs_of_definition(definition: str) -> Needs:
    """What a definition of sepsis cannot do without.

    >>> needs_of_definition("adult_sepsis_event").variables.keys() & SEPSIS3_NEEDS.variables.keys()
    set()
    """
    is_event = definition == "adult_sepsis_event"
    return ADULT_SEPSIS_EVENT_NEEDS if is_event else SEPSIS3_NEEDS


_NAMED_REASONS = 3

UNKNOWN_SUBJECT = "of a subject who is not in the table of patients"
"""Reason for which rows are excluded."""

UNKNOWN_UNIT = "unit not known"
"""Reason for which the values of a variable may be wrong; the rows are kept."""

UNKNOWN_DOSE = "dose not known by its unit"
"""Reason for which doses are unknown; the rows are kept."""

_LOSSES = (
    "outside the stay",
    "ends before it starts",
    "no number",
    "no positive amount",
    "no positive amount or rate",
)
"""Reasons that concern few rows of a sound record."""

_MAX_LOSS = 0.1
"""The largest share of a table's rows for such a reason without a warning. A convention of ours: in
the demo of MIMIC-III 4% of the amounts in INPUTEVENTS_CV are zero. Rows of unknown subjects are
always named."""

LATE_DAYS = 365
"""After discharge; a record that is completed later than that has wrong dates. Our convention."""

VITAL_SIGNS = ("hr", "map", "sbp", "dbp", "o2sat", "resp", "temp")
"""A monitor's variables."""

CORE_VARIABLES = (
    *(("hr",), ("map",), ("sbp",), ("dbp",), ("o2sat", "sao2"), ("resp",), ("temp",)),
    *(("crea",), ("bun",), ("na",), ("k",), ("bicar", "tco2"), ("glu",), ("lact",)),
    *(("bili",), ("hgb", "hct"), ("plt",), ("wbc",)),
)
"""The vital signs and the core results of the laboratory, with what may stand for them: nearly
every patient in intensive care has them. Where nobody has, the records or their mapping are at
fault."""

HOURLY_NEEDS = Needs(
    variables={
        "intensive care": ("hr",),
        "every hour of intensive care": VITAL_SIGNS[1:],
    }
)
"""What hourly records of intensive care cannot be without: the heart rate and one of the others."""

VITAL_NEEDS = Needs(variables={"intensive care": VITAL_SIGNS})
"""What records of any kind cannot be without."""


def needs_of_tables(tables: Iterable[str]) -> Needs:
    """What tables of the contract that another program wrote cannot be without.

    >>> needs_of_tables(["stays"]).tables
    {"the table 'stays'": ('stays',)}
    """
    return replace(VITAL_NEEDS, tables={f"the table {table!r}": (table,) for table in tables})


def find_gaps(
    needs: Needs,
    rows: Mapping[str, int],
    variables: set[str],
    counts: Mapping[str, int],
    stay_columns: Set[str] = frozenset(),
) -> list[str]:
    """What is missing, one sentence each.

    Args:
        needs: what the source cannot do without.
        rows: rows of each table.
        variables: the variables with a value.
        counts: the counts of the source.
        stay_columns: the columns of stays with a value.

    >>> needs = Needs(variables={"the SOFA score of the liver": ("bili",)})
    >>> find_gaps(needs, {}, {"hr"}, {})
    ['no stay has a value of bili, which the SOFA score of the liver needs']
    """
    gaps = [
        f"no row of {' or '.join(map(str.upper, tables))} can be used, which {purpose} needs"
        for purpose, tables in needs.tables.items()
        if not any(rows.get(table) for table in tables)
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
    gaps += [
        f"no stay has a value of {' or '.join(names)}, which {purpose} needs"
        for purpose, names in needs.stay_columns.items()
        if stay_columns.isdisjoint(names)
    ]
    return gaps


def find_core_gaps(present: Set[str]) -> list[str]:
    """Core variables and components of the SOFA score of which no stay has a value.

    >>> everything = {name for names in CORE_VARIABLES for name in names} | {"gcs", "po2"}
    >>> find_core_gaps(everything), find_core_gaps(everything - {"hgb", "hct", "bili"})[0]
    ([], 'CORE VARIABLES WITHOUT A SINGLE VALUE: bili; hgb or hct')
    >>> find_core_gaps(everything - {"gcs"})
    ['COMPONENTS OF THE SOFA SCORE WITHOUT A SINGLE VALUE: the brain (gcs or egcs or mgcs or vgcs)']
    """
    absent = [" or ".join(names) for names in CORE_VARIABLES if present.isdisjoint(names)]
    warnings = [f"CORE VARIABLES WITHOUT A SINGLE VALUE: {'; '.join(absent)}"] if absent else []
    organs = [
        f"{purpose.removeprefix(_SOFA_OF)} ({' or '.join(names)})"
        for purpose, names in SEPSIS3_NEEDS.variables.items()
        if present.isdisjoint(names)
    ]
    if organs:
        warnings.append(f"COMPONENTS OF THE SOFA SCORE WITHOUT A SINGLE VALUE: {'; '.join(organs)}")
    return warnings


def find_warnings(
    declared: tuple[str, ...], present: Set[str], episodes: Mapping[str, int]
) -> list[str]:
    """What an extract lacks although the source could have it, one sentence each.

    Args:
        declared: the columns of stays and the variables that the source can contain.
        present: those with a value.
        episodes: the number of episodes of each response that somebody has looked for.

    >>> find_warnings(("sex", "hr", "lact"), {"hr"}, {"sepsis": 1, "aki": 0})
    ['no stay has a value of sex, lact', 'no stay has an episode of aki']
    """
    absent = [name for name in declared if name not in present]
    warnings = [f"no stay has a value of {', '.join(absent)}"] if absent else []
    never = [response for response, n in episodes.items() if not n]
    if len(never) == len(episodes):
        warnings.append("no stay has an episode: there is nothing to predict")
    elif never:
        warnings.append(f"no stay has an episode of {', '.join(never)}")
    return warnings


def find_implausible(exclusions: Mapping[str, int], events: int, max_share: float) -> list[str]:
    """A warning if the source has excluded many values as implausible: units may be wrong.

    Args:
        exclusions: rows that the source has excluded, by reason.
        events: rows that remain.
        max_share: the largest share of implausible values without a warning.

    >>> find_implausible({"implausible values": 3}, 97, 0.02)
    ['3 values (3.0%) are implausible and excluded, by reason: implausible values 3']
    """
    counts = {reason: n for reason, n in exclusions.items() if "implausible" in reason}
    total = sum(counts.values())
    if not total or total <= max_share * (total + events):
        return []
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_NAMED_REASONS]
    named = ", ".join(f"{reason} {n:,}" for reason, n in largest)
    share = total / (total + events)
    return [f"{total:,} values ({share:.1%}) are implausible and excluded, by reason: {named}"]


def find_losses(exclusions: Mapping[str, int], rows: Mapping[str, int]) -> list[str]:
    """Warnings of rows that are excluded although a sound record hardly has any of them.

    Args:
        exclusions: rows that the source has excluded, by reason (``TABLE: reason``).
        rows: rows of each raw table.

    >>> find_losses({"chartevents: outside the stay": 3}, {"chartevents": 10})
    ['CHARTEVENTS: 3 rows (30.0%) are excluded: outside the stay']
    """
    warnings = []
    for entry, n in sorted(exclusions.items()):
        table, _, reason = entry.partition(": ")
        share = n / rows[table] if rows.get(table) else 0.0
        if reason == UNKNOWN_SUBJECT or (reason in _LOSSES and share > _MAX_LOSS):
            warnings.append(f"{table.upper()}: {n:,} rows ({share:.1%}) are excluded: {reason}")
    return warnings


def find_late(late_stays: Mapping[str, int]) -> list[str]:
    """Warnings of facts that were in the record implausibly late.

    Args:
        late_stays: stays with such a row, by table.

    >>> find_late({"events": 2})
    ['events: 2 stays have a row with known_at over 365 days after discharge: it is never used']
    """
    return [
        f"{table}: {n:,} stays have a row with known_at over {LATE_DAYS} days after discharge: "
        "it is never used"
        for table, n in late_stays.items()
        if n
    ]


def find_unknown_units(exclusions: Mapping[str, int]) -> list[str]:
    """A warning for each table with values in a unit that is not known; they are read as they are.

    >>> find_unknown_units({"labevents: unit not known: lact in mg/dl (rows kept)": 3})
    ['LABEVENTS: 3 values have a unit that is not known, and are read as they are: lact in mg/dl 3']
    """
    meaning = "values have a unit that is not known, and are read as they are"
    return _name_by_table(exclusions, UNKNOWN_UNIT, meaning)


def find_unknown_doses(exclusions: Mapping[str, int]) -> list[str]:
    """A warning for each table with doses of vasopressors and inotropes in an unknown unit.

    >>> found = find_unknown_doses({f"x: {UNKNOWN_DOSE}: dopamine in drops/min (rows kept)": 3})
    >>> found[0].split(": ")[1]
    '3 doses have a unit that does not tell their amount, and are unknown'
    """
    meaning = "doses have a unit that does not tell their amount, and are unknown"
    return _name_by_table(exclusions, UNKNOWN_DOSE, meaning)


def _name_by_table(exclusions: Mapping[str, int], reason: str, meaning: str) -> list[str]:
    """A sentence for each table with rows of a reason: how many, and the most frequent values."""
    counts: dict[str, dict[str, int]] = {}
    for entry, n in sorted(exclusions.items(), key=lambda item: (-item[1], item[0])):
        table, _, value = entry.partition(f": {reason}: ")
        if value:
            counts.setdefault(table, {})[value.removesuffix(" (rows kept)")] = n
    return [
        f"{table.upper()}: {sum(values.values()):,} {meaning}: "
        + ", ".join(f"{value} {n:,}" for value, n in list(values.items())[:_NAMED_REASONS])
        for table, values in sorted(counts.items())
    ]
