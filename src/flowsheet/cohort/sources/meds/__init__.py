"""The Medical Event Data Standard: shards of (subject, time, code, number), read through a mapping
of codes.

https://github.com/Medical-Event-Data-Standard/meds, version 0.4; the codes of the mapping that
ships are those of https://github.com/Medical-Event-Data-Standard/MIMIC_IV_MEDS. How to bring
another data set: docs/bring-your-own.md.

**Stays** run from an admission to intensive care to the discharge with the same ``icustay_id``;
where the shards have no such column, to the subject's next discharge, and stays are numbered. Sex
and birth come from the subject's own rows, care unit and admission type from what their codes say
after the first ``//``.

**Facts** belong to the stay they lie in, else to the one that begins within ``before_hours`` after
them, else to the one that ended within ``after_hours`` before them. MEDS has one time a row: it is
when the fact was true, and it was known then, after the mapping's ``delay_hours``, or at the time
in the column that ``known_at`` names. Of several values of a variable at one time the one counts
that was known first, then the code that the mapping names first; outputs are summed. Values that
cannot be true are left out and counted. Drugs come as single doses or as pairs of start and end.

**Codes** that the mapping does not speak of are counted by name, the most frequent ones in the
manifest.

Rows wait for the batch of their stay in memory, up to 4 GB and a quarter of the machine's; beyond
that they are written to a folder under ``FLOWSHEET_HOME/spill``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import Field, model_validator

from flowsheet.cohort.schema import TREATMENTS, empty_table
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, CULTURES, Sepsis3Options, label
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.sources.meds import (
    facts as _meds_facts,
)
from flowsheet.cohort.sources.meds import (
    labels as _meds_labels,
)
from flowsheet.cohort.sources.meds import (
    sepsis as _meds_sepsis,
)
from flowsheet.cohort.sources.meds import (
    stays as _meds_stays,
)
from flowsheet.cohort.sources.meds.codes import DRUGS, Mapping
from flowsheet.cohort.sources.meds.shards import Shards
from flowsheet.cohort.spill import Spill, spill_folder
from flowsheet.config import FrozenModel
from flowsheet.state.hashing import digest, file_digest

SUBJECTS_A_READ = 1_000
STAYS_A_BATCH = 2_000
NAMED_CODES = 100
"""How many unknown codes are named; the others are counted together."""

Hours = Annotated[float, Field(ge=0, le=10_000)]


class MedsOptions(FrozenModel):
    """How the rows are read."""

    mapping: str = "mimic"
    """A mapping that ships, or the path of a CSV file of codes."""
    known_at: str | None = None
    """A column of the shards with the time at which the row was stored."""
    before_hours: Annotated[float, Field(ge=0, le=24)] = 24.0
    """How long before admission a fact counts to the stay, unless it lies in another ..."""
    after_hours: Annotated[float, Field(ge=0, le=24)] = 2.0
    """... and how long after discharge, unless it lies in another or before one."""
    labels: str | None = None
    """A file or folder in MEDS's label schema, whose ``boolean_value`` tells the state."""
    label_lead_hours: Hours = 0.0
    """Hours before onset from which the label is true."""
    label_known_after_hours: Hours = 192.0
    """Hours after onset until the label counts as known; 192 is the longest that Sepsis-3 can take (see yaib)."""
    sepsis3: Sepsis3Options | None = None
    """Label the stays by Sepsis-3, out of the antibiotics and cultures that the mapping names.
    Without this and without labels there are no episodes."""

    @model_validator(mode="after")
    def _one_label(self) -> MedsOptions:
        if self.labels and self.sepsis3:
            raise ValueError(
                "labels and sepsis3 exclude each other: episodes come from one of them"
            )
        return self


@dataclass(frozen=True)
class _Plan:
    """What is to be read: ``meaning`` has a row a (file, code) that the mapping speaks of, with what it means."""

    meaning: pl.DataFrame
    stays: pl.DataFrame
    defects: pl.DataFrame

    def of(self, *kinds: str) -> pl.DataFrame:
        """The codes of some kinds."""
        return self.meaning.filter(pl.col("kind").is_in(kinds))


@SOURCES.register("meds")
class Meds(Source):
    """A MEDS data set, a thousand subjects at a time."""

    Options: ClassVar[type[FrozenModel]] = MedsOptions
    version: ClassVar[int] = 2
    rules: ClassVar[tuple[str, ...]] = _meds_stays.RULES

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        assert path is not None
        self._mapping = Mapping.read(options.mapping)
        self._shards = Shards.open(path, options.known_at)
        self.licence = str(
            self._shards.metadata().get("license") or "as the data set's owner states it"
        )
        self.variables = self._mapping.names("variable")
        self.drugs = self._mapping.names(*DRUGS)

    def fingerprint(self) -> str:
        """sha256 over the shards', the labels' and the mapping's own."""
        labels = _meds_labels.files_of(self.options.labels) if self.options.labels else []
        return digest(
            {
                "shards": [file_digest(file) for file in self._shards.files],
                "labels": [file_digest(file) for file in labels],
                "mapping": self._mapping.rules.to_dicts(),
            }
        )

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order."""
        left_out: Counter[str] = Counter()
        plan = self._plan(left_out)
        labelled = self._episodes(plan.stays, left_out)
        numbers = plan.stays.select("stay_id", stay=pl.int_range(pl.len()))
        with spill_folder() as folder:
            spill = Spill(folder, plan.stays.height, STAYS_A_BATCH)
            for facts in self._facts(plan, left_out):
                _add_to_spill(spill, facts, numbers)
            spill.finish_adding()
            slices = list(plan.stays.iter_slices(STAYS_A_BATCH)) or [plan.stays]
            for i, stays in enumerate(slices):
                batch = self._batch(stays, _pop_from_spill(spill, i), labelled, left_out)
                last = i == len(slices) - 1
                yield replace(
                    batch,
                    defects=plan.defects if i == 0 else plan.defects.clear(),
                    exclusions={reason: n for reason, n in left_out.items() if n} if last else {},
                )

    def _batch(
        self,
        stays: pl.DataFrame,
        found: dict[str, pl.DataFrame],
        labelled: pl.DataFrame,
        left_out: Counter[str],
    ) -> StayBatch:
        events = _meds_facts.chosen(found["events"], left_out)
        given = _meds_facts.treatments(found["treatments"])
        episodes, counted = labelled.filter(pl.col("stay_id").is_in(stays["stay_id"].implode())), {}
        if self.options.sepsis3:
            made = label(
                stays, events, given, found["antibiotics"], found["cultures"], self.options.sepsis3
            )
            episodes, counted = made.episodes, made.counts
        steps = {"intensive care stays": stays.height}
        return StayBatch(stays, events, given, episodes, attrition=steps, source_counts=counted)

    def _plan(self, left_out: Counter[str]) -> _Plan:
        counted = self._shards.codes()
        matched = self._mapping.match(counted["code"].unique())
        _count_unknown(counted.join(matched, on="code", how="anti"), left_out)
        meaning = counted.join(matched, on="code").join(self._mapping.rules.drop("code"), on="rule")
        meaning = meaning.sort("file", "code")
        people = meaning.filter(pl.col("kind").is_in(_meds_stays.KINDS))
        parts = [_meant(self._shards.read(i, own["code"]), own) for i, own in _by_file(people)]
        rows = pl.concat(parts) if parts else _meant(self._shards.read(0, people["code"]), people)
        stays, defects = _meds_stays.build(rows)
        return _Plan(meaning, stays, defects)

    def _facts(self, plan: _Plan, left_out: Counter[str]) -> Iterator[dict[str, pl.DataFrame]]:
        """Events and treatments of some subjects at a time, each with its stay."""
        subjects = plan.stays["subject_id"].unique().sort()
        for position, own in _by_file(plan.of("variable", "culture", *DRUGS)):
            for some in subjects.to_frame().iter_slices(SUBJECTS_A_READ):
                ids = some["subject_id"]
                rows = self._shards.read(position, own["code"], (int(ids[0]), int(ids[-1])))
                rows = _meant(rows.filter(pl.col("subject_id").is_in(ids.implode())), own)
                yield self._placed(_meds_facts.timed(rows, left_out), plan.stays, left_out)

    def _placed(
        self, rows: pl.DataFrame, stays: pl.DataFrame, left_out: Counter[str]
    ) -> dict[str, pl.DataFrame]:
        given = _meds_facts.doses(rows.filter(pl.col("kind").is_in(DRUGS)), left_out)
        told = {"events": rows.filter(kind="variable"), "treatments": given}
        hours = self.options.before_hours, self.options.after_hours
        placed = {name: _meds_facts.of_stays(frame, stays, *hours) for name, frame in told.items()}
        for frame in placed.values():
            left_out["a measurement or drug outside every stay"] += frame["stay_id"].null_count()
        inside = {name: frame.drop_nulls("stay_id") for name, frame in placed.items()}
        inside["events"] = _meds_facts.measurements(inside["events"], left_out)
        if self.options.sepsis3:
            inside["antibiotics"] = _meds_sepsis.antibiotics(given, stays, self.options.sepsis3)
            inside["cultures"] = _meds_sepsis.cultures(rows, stays)
        return inside

    def _episodes(self, stays: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
        chosen = self.options
        if not chosen.labels:
            return empty_table("episodes")
        labels = _meds_labels.read(chosen.labels)
        return _meds_labels.episodes(
            labels, stays, chosen.label_lead_hours, chosen.label_known_after_hours, left_out
        )


def _by_file(meaning: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    for position in meaning["file"].unique().sort():
        yield int(position), meaning.filter(file=position)


def _meant(rows: pl.DataFrame, meaning: pl.DataFrame) -> pl.DataFrame:
    """The rows with what their codes mean."""
    return rows.join(meaning.drop("file", "rows"), on="code", how="inner", maintain_order="left")


def _count_unknown(codes: pl.DataFrame, left_out: Counter[str]) -> None:
    counted = (
        codes.group_by("code")
        .agg(pl.col("rows").sum())
        .sort("rows", "code", descending=[True, False])
    )
    for code, rows in counted.head(NAMED_CODES).iter_rows():
        left_out[f"the mapping does not know the code {code!r}"] += rows
    rest = counted[NAMED_CODES:]
    left_out[f"the mapping does not know {rest.height:,} other codes"] += int(rest["rows"].sum())


_SPILLED: dict[str, dict[str, pl.DataType]] = {
    "events": _meds_facts.MEASURED,
    "treatments": TREATMENTS,
    "antibiotics": ANTIBIOTICS,
    "cultures": CULTURES,
}


def _add_to_spill(spill: Spill, facts: dict[str, pl.DataFrame], numbers: pl.DataFrame) -> None:
    """Add the facts under the numbers of their stays; ``numbers`` has the columns stay_id, stay."""
    for table, frame in facts.items():
        columns = frame.select(list(_SPILLED[table]))
        spill.add(table, columns.join(numbers, on="stay_id", how="inner", maintain_order="left"))


def _pop_from_spill(spill: Spill, group: int) -> dict[str, pl.DataFrame]:
    """The facts of one group of stays, by table."""
    facts = {table: spill.pop(table, group, schema) for table, schema in _SPILLED.items()}
    return {table: rows.drop("stay", strict=False) for table, rows in facts.items()}
