"""What the validation of batches counts, for the manifest and the errors.

The counts of batches that several processes have validated add up to those of one process.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl

from flowsheet.cohort import checks
from flowsheet.cohort.extract import QuarantineEntry
from flowsheet.state.json_files import read_json, write_json

_MAX_EXAMPLES = 1000
_EXAMPLES_PER_RULE = 5
"""Of each table and call of :meth:`ValidationCounts.add_failures`."""
_COUNTS, _EXAMPLES = "counts.json", "examples.arrow"

RuleCounts = Counter[tuple[str, str]]
"""Numbers by (table, rule)."""


@dataclass
class ValidationCounts:
    """Counts of one batch, or of several that follow each other."""

    stays: int = 0
    """Stays that passed."""
    last_stay: int | None = None
    """The greatest id of a stay that was offered."""
    failures: RuleCounts = field(default_factory=Counter)
    quarantined: RuleCounts = field(default_factory=Counter)
    """Rows of the quarantine."""
    attrition: Counter[str] = field(default_factory=Counter)
    exclusions: Counter[str] = field(default_factory=Counter)
    source_counts: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    """Rows of the contract's tables, and of raw tables as far as the source counts them."""
    broken_rows: Counter[str] = field(default_factory=Counter)
    """Those that broke a rule themselves."""
    episodes: Counter[str] = field(default_factory=Counter)
    """Episodes that passed or were computed, by response."""
    late_stays: Counter[str] = field(default_factory=Counter)
    """Stays with a row that was in the record implausibly late, by table."""
    variables: set[str] = field(default_factory=set)
    """Variables with a value."""
    stay_columns: set[str] = field(default_factory=set)
    """Columns of stays with a value."""
    first_failures: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema=checks.FAILURES)
    )
    """Some failures of each rule, ``_MAX_EXAMPLES`` at most."""

    def add(self, later: ValidationCounts) -> None:
        """Add the counts of the batches that follow."""
        self.stays += later.stays
        for name, counts in vars(self).items():
            if isinstance(counts, Counter | set):
                counts.update(getattr(later, name))
        self._add_examples(later.first_failures)
        self.see_stay(later.last_stay)

    def see_stay(self, stay: int | None) -> None:
        """Note the id of a stay."""
        self.last_stay = max((i for i in (self.last_stay, stay) if i is not None), default=None)

    def add_failures(self, failures: pl.DataFrame) -> None:
        """Count failures, and keep some as examples."""
        self.failures.update(count_by_rule(failures))
        turn = pl.int_range(pl.len()).over("table", "rule")
        self._add_examples(failures.filter(turn < _EXAMPLES_PER_RULE))

    def _add_examples(self, failures: pl.DataFrame) -> None:
        room = _MAX_EXAMPLES - self.first_failures.height
        if room and failures.height:
            self.first_failures = pl.concat([self.first_failures, failures.head(room)])

    def shares(self) -> dict[str, float]:
        """Per table, the share of its rows that broke a rule themselves."""
        return {table: self.broken_rows[table] / n for table, n in self.rows.items() if n}

    def entries(self) -> tuple[QuarantineEntry, ...]:
        """The counts of the quarantine, for the manifest."""
        return tuple(
            QuarantineEntry(table=table, rule=rule, rows=n)
            for (table, rule), n in sorted(self.quarantined.items())
        )

    def examples(self, n: int) -> pl.DataFrame:
        """The first n failures, taking rules in turn."""
        turn = pl.int_range(pl.len()).over("table", "rule")
        ordered = self.first_failures.with_columns(turn=turn).sort("turn", maintain_order=True)
        return ordered.head(n).drop("turn")

    def save(self, folder: Path) -> None:
        """Write the counts to two files; counters keep their order."""
        values = {name: _to_json(value) for name, value in vars(self).items()}
        self.first_failures.write_ipc_stream(folder / _EXAMPLES)
        write_json(folder / _COUNTS, {**values, "first_failures": None})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The counts that :meth:`save` wrote."""
        counts = cls()
        for name, value in read_json(folder / _COUNTS).items():
            setattr(counts, name, _from_json(value, getattr(counts, name)))
        counts.first_failures = pl.read_ipc_stream(folder / _EXAMPLES)
        return counts


def _to_json(value: object) -> Any:
    if isinstance(value, Counter):
        return list(value.items())
    return sorted(value) if isinstance(value, set) else value


def _from_json(value: Any, empty: object) -> Any:
    """The value, of the type of the empty one."""
    if isinstance(empty, Counter):
        pairs = [(tuple(key) if isinstance(key, list) else key, n) for key, n in value]
        return Counter(dict(pairs))
    return set(value) if isinstance(empty, set) else value


def count_by_rule(lines: pl.DataFrame) -> dict[tuple[str, str], int]:
    """The number of lines by (table, rule), in alphabetical order."""
    counts = lines.group_by("table", "rule").len().sort("table", "rule")
    return {(table, rule): n for table, rule, n in counts.iter_rows()}
