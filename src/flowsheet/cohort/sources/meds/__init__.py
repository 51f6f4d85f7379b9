"""The Medical Event Data Standard: shards of (subject, time, code, number), and a mapping of codes.

https://github.com/Medical-Event-Data-Standard/meds, version 0.4; the codes of the shipped mapping
are those of https://github.com/Medical-Event-Data-Standard/MIMIC_IV_MEDS. How to read another data
set: docs/bring-your-own.md.

**Stays** run from an admission to intensive care to the discharge with the same ``icustay_id``.
Where the shards have no such column, they run to the subject's next discharge, and are numbered.
Sex and birth come from the rows of the subject, care unit and admission type from the part of the
codes after the first ``//``.

**Events and drugs** belong to the stay that contains their time; otherwise to the stay that begins
within ``before_hours`` after it; otherwise to the stay that ended within ``after_hours`` before it.
MEDS has one time a row, at which it was true. It is known then, or after the ``delay_hours`` of the
mapping, or at the time in the column ``known_at``. Of several values of a variable at the same time
the one that was known first is used, then the one of the code that is first in the mapping; fluid
outputs are summed. Implausible values are excluded and counted. Drugs are single doses, or pairs of
a start and an end.

**Codes** that are not in the mapping are counted by name, the most frequent ones in the manifest.

Memory holds the rows of a thousand subjects; what is read is written to a temporary folder and read
again in the order of the stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import Field, model_validator

from flowsheet.cohort.completeness import (
    VITAL_NEEDS,
    VITAL_SIGNS,
    Needs,
    needs_of_definition,
)
from flowsheet.cohort.derived import add_derived, derivable_variables
from flowsheet.cohort.schema import LABEL, TREATMENTS, empty_table
from flowsheet.cohort.sepsis3 import ANTIBIOTICS as ANTIBIOTICS
from flowsheet.cohort.sepsis3 import CULTURES as CULTURES
from flowsheet.cohort.sepsis3 import SEPSIS, LabelInputs, Sepsis3Options, label
from flowsheet.cohort.sepsis3.frames import ORDERED
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.sources.meds.assignment import assign_stays
from flowsheet.cohort.sources.meds.codes import DRUGS, count_units_of_codes
from flowsheet.cohort.sources.meds.labels import build_episodes, find_label_files, read_labels
from flowsheet.cohort.sources.meds.mappings import AUTO, choose_mapping, describe_variant
from flowsheet.cohort.sources.meds.measurements import (
    MEASURED as MEASURED,
)
from flowsheet.cohort.sources.meds.measurements import (
    add_coma_totals,
    add_known_at,
    convert_measurements,
    move_to_draws,
    select_events,
)
from flowsheet.cohort.sources.meds.missing import find_missing_shards
from flowsheet.cohort.sources.meds.orders import (
    ORDERS,
    build_ordered_treatments,
    collect_orders,
    list_drugs,
    name_drugs,
)
from flowsheet.cohort.sources.meds.sepsis3_inputs import select_antibiotics, select_cultures
from flowsheet.cohort.sources.meds.shards import Shards
from flowsheet.cohort.sources.meds.spilled_records import add_records, pop_records
from flowsheet.cohort.sources.meds.states import repeat_states
from flowsheet.cohort.sources.meds.stays import KINDS as STAY_KINDS
from flowsheet.cohort.sources.meds.stays import RULES, build_stays, find_runs
from flowsheet.cohort.sources.meds.treatments import collect_doses, finish_treatments
from flowsheet.cohort.spill import Spill, spill_folder
from flowsheet.cohort.time_zones import TimeZone
from flowsheet.config import FrozenModel, Name
from flowsheet.state.hashing import digest, file_digest

SUBJECTS_PER_READ = 1_000
STAYS_PER_BATCH = 2_000
NAMED_CODES = 100
"""How many unmapped codes the manifest lists by name; the others are counted together."""

Hours = Annotated[float, Field(ge=0, le=10_000)]


class MedsOptions(FrozenModel):
    """How the rows are read."""

    mapping: str = AUTO
    """A shipped mapping (mimic, openicu), the path of a CSV file of codes, or ``auto``: the shipped
    one that the metadata name or the codes need."""
    database: str | None = None
    """The database to read, where a column ``dataset`` names several, as OpenICU's may."""
    stay_gap_hours: Annotated[float, Field(gt=0, le=1_000)] | None = None
    """Where no code tells of admissions to intensive care, a stay is a run of vital signs without a
    longer gap. Null: 24 with the mapping openicu, and no stays otherwise."""
    known_at: str | None = None
    """A column of the shards with the time at which the row was stored."""
    before_hours: Annotated[float, Field(ge=0, le=24)] = 24.0
    """How long before admission an event counts to the stay, unless it is in another stay ..."""
    after_hours: Annotated[float, Field(ge=0, le=24)] = 2.0
    """... and how long after discharge, unless it is in another stay or before one."""
    labels: str | None = None
    """A file or folder in MEDS's label schema, whose ``boolean_value`` is the state."""
    response: Name = LABEL
    """What the labels are of: sepsis, death, aki, ..."""
    label_lead_hours: Hours = 0.0
    """Hours before onset from which the label is true."""
    label_known_after_hours: Hours = 192.0
    """Hours after onset until the label is known; Sepsis-3 takes 192 at most (see yaib)."""
    time_zone: TimeZone = None
    """The zone, such as Europe/Berlin, to whose local time zoned times are converted. Without it
    they are refused."""
    sepsis3: Sepsis3Options | None = None
    """Label the stays by Sepsis-3, from the antibiotics and cultures of the mapping.

    Without this option and without labels there are no episodes."""

    @model_validator(mode="after")
    def _check_single_label(self) -> MedsOptions:
        if self.labels and self.sepsis3:
            raise ValueError(
                "labels and sepsis3 exclude each other: episodes come from one of them"
            )
        return self


@dataclass(frozen=True)
class _Plan:
    """The stays, and the codes to read for them."""

    codes: pl.DataFrame
    """One row for each shard and mapped code, with the columns of the mapping."""
    stays: pl.DataFrame
    defects: pl.DataFrame

    def select(self, *kinds: str) -> pl.DataFrame:
        """The codes of these kinds."""
        return self.codes.filter(pl.col("kind").is_in(kinds))

    @property
    def source_of_doses(self) -> str:
        """Where there are no orders, charted doses count as ordered."""
        return "infusions" if "order" in self.codes["kind"] else ORDERED


@SOURCES.register("meds")
class Meds(Source):
    """A MEDS data set, read in parts of a thousand subjects."""

    Options: ClassVar[type[FrozenModel]] = MedsOptions
    rules: ClassVar[tuple[str, ...]] = RULES

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        assert path is not None
        self._warnings: list[str] = []
        self._shards = Shards.open(path, options.known_at, options.time_zone, options.database)
        self._codes = self._shards.count_codes()
        metadata = self._shards.read_metadata()
        self._chosen = choose_mapping(options.mapping, metadata, self._codes)
        self._mapping = self._chosen.codes
        self.licence = str(metadata.get("license") or "as stated by the owner of the data set")
        self.drugs = list_drugs(self._mapping)
        charted = self._mapping.names("variable")
        self.variables = (*charted, *derivable_variables(charted, self.drugs))
        if options.sepsis3:
            self.responses = (SEPSIS,)
        elif options.labels:
            self.responses = (options.response,)

    def needs(self) -> Needs:
        """What the definition of sepsis needs, where it gives the episodes; else vital signs."""
        options = self.options.sepsis3
        return needs_of_definition(options.definition) if options else VITAL_NEEDS

    def choices(self) -> dict[str, str]:
        """The mapping of codes, and why it was chosen."""
        variant = describe_variant(self._codes) if self._chosen.name == "mimic" else ""
        reason = f"by {self._chosen.reason}{f'; {variant}' if variant else ''}"
        return {"mapping": f"{self._chosen.name} ({reason})"}

    def warnings(self) -> list[str]:
        """What is missing or not read: shards, files beside them, and shards without a code."""
        unread = [
            f"{file} is no Parquet file and is not read" for file in self._shards.find_unread()
        ]
        return [*find_missing_shards(self._shards, self._codes), *unread, *self._warnings]

    def fingerprint(self) -> str:
        """sha256 of the shards, the labels and the mapping."""
        labels = find_label_files(self.options.labels) if self.options.labels else []
        return digest(
            {
                "shards": [file_digest(file.path) for file in self._shards.files],
                "labels": [file_digest(file) for file in labels],
                "mapping": self._mapping.rows.to_dicts(),
            }
        )

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order."""
        exclusions: Counter[str] = Counter()
        plan = self._make_plan(exclusions)
        labelled = self._read_episodes(plan.stays, exclusions)
        numbers = plan.stays.select("stay_id", stay=pl.int_range(pl.len()))
        with spill_folder() as folder:
            spill = Spill(folder, plan.stays.height, STAYS_PER_BATCH)
            for records in self._read_records(plan, exclusions):
                add_records(spill, records, numbers)
            spill.finish_adding()
            slices = list(plan.stays.iter_slices(STAYS_PER_BATCH)) or [plan.stays]
            for i, stays in enumerate(slices):
                records = pop_records(spill, i)
                batch = self._make_batch(stays, records, labelled, exclusions)
                is_last = i == len(slices) - 1
                counted = {reason: n for reason, n in exclusions.items() if n}
                yield replace(
                    batch,
                    defects=plan.defects if i == 0 else plan.defects.clear(),
                    exclusions=counted if is_last else {},
                )

    def _make_plan(self, exclusions: Counter[str]) -> _Plan:
        codes = self._codes
        matches = self._mapping.match(codes["code"].unique())
        if self._chosen.name == "mimic":  # whose codes end in units
            count_units_of_codes(codes.join(matches, on="code"), self._mapping, exclusions)
        lines = self._mapping.rows.rename({"code": "pattern"})
        mapped = name_drugs(matches.join(lines, on="mapping_row"))
        _count_unmapped(codes.join(mapped, on="code", how="anti"), exclusions)
        codes = codes.join(mapped.drop("pattern"), on="code").sort("file", "code")
        self._warnings = [
            f"no code of {file.path.relative_to(self._shards.root)} is in the mapping"
            for position, file in enumerate(self._shards.files)
            if position not in codes["file"]
        ]
        stay_codes = codes.filter(pl.col("kind").is_in(STAY_KINDS))
        parts = [
            _add_meaning(self._shards.read(file, file_codes["code"]), file_codes)
            for file, file_codes in _iter_files(stay_codes)
        ]
        if not parts:  # no rows, but their columns
            parts = [_add_meaning(self._shards.read(0, stay_codes["code"]), stay_codes)]
        stays, defects = build_stays(pl.concat(parts), self._find_runs(codes))
        return _Plan(codes, stays, defects)

    def _find_runs(self, codes: pl.DataFrame) -> pl.DataFrame | None:
        """The stays that vital signs show, where no code tells of admissions and discharges."""
        gap_hours = self.options.stay_gap_hours or self._chosen.stay_gap_hours
        has_stays = {"icu_admission", "icu_discharge"} <= set(codes["kind"])
        if has_stays or gap_hours is None:
            return None
        vital_signs = codes.filter(pl.col("name").is_in(VITAL_SIGNS), kind="variable")
        runs = find_runs(self._shards.find_hours(vital_signs["code"].unique()), gap_hours)
        self._warnings.append(
            f"no code tells of admissions to intensive care: the {runs.height:,} stays are runs of "
            f"vital signs without a gap of more than {gap_hours:g} h "
            "(cohort.options.stay_gap_hours)"
        )
        return runs

    def _read_records(
        self, plan: _Plan, exclusions: Counter[str]
    ) -> Iterator[dict[str, pl.DataFrame]]:
        """The tables of some subjects at a time, each row with its stay."""
        subjects = plan.stays.select(pl.col("subject_id").unique().sort())
        shards = self._shards.count_shards_of_subjects()
        shared = shards.filter(pl.col("shards") > 1)["subject_id"]
        is_shared = pl.col("subject_id").is_in(shared.implode())
        files = list(_iter_files(plan.select("variable", "draw", "culture", *DRUGS, *ORDERS)))
        # Starts and ends of drugs are paired: all rows of a subject are read at once.
        groups = [([file], subjects.filter(~is_shared)) for file in files]
        if files:
            groups.append((files, subjects.filter(is_shared)))
        for group, group_subjects in groups:
            for part in group_subjects.iter_slices(SUBJECTS_PER_READ):
                rows = self._read_subjects(group, part["subject_id"])
                rows = add_known_at(rows, exclusions)
                yield self._make_records(rows, plan, exclusions)

    def _read_subjects(
        self, files: list[tuple[int, pl.DataFrame]], subjects: pl.Series
    ) -> pl.DataFrame:
        """The mapped rows of some subjects in some shards; ``subjects`` is sorted."""
        limits = (int(subjects[0]), int(subjects[-1]))
        parts = []
        for file, codes in files:
            rows = self._shards.read(file, codes["code"], limits)
            rows = rows.filter(pl.col("subject_id").is_in(subjects.implode()))
            parts.append(_add_meaning(rows, codes))
        return pl.concat(parts)

    def _make_records(
        self, rows: pl.DataFrame, plan: _Plan, exclusions: Counter[str]
    ) -> dict[str, pl.DataFrame]:
        stays = plan.stays
        doses = collect_doses(rows.filter(pl.col("kind").is_in(DRUGS)), exclusions)
        measured = move_to_draws(rows).filter(kind="variable")
        events = self._assign(measured, stays, exclusions)
        orders = collect_orders(rows.filter(pl.col("kind").is_in(ORDERS)))
        ordered = build_ordered_treatments(orders, stays, self._mapping.names(*DRUGS))
        given = self._assign(doses, stays, exclusions).select(list(TREATMENTS))
        records = {
            "events": repeat_states(convert_measurements(events, exclusions), stays, exclusions),
            "treatments": pl.concat([given.cast(pl.Schema(TREATMENTS)), ordered]),
        }
        if self.options.sepsis3:
            records["antibiotics"] = select_antibiotics(
                doses.with_columns(source=pl.lit(plan.source_of_doses)),
                orders,
                stays,
                self.options.sepsis3,
            )
            records["cultures"] = select_cultures(rows, stays)
        return records

    def _assign(
        self, rows: pl.DataFrame, stays: pl.DataFrame, exclusions: Counter[str]
    ) -> pl.DataFrame:
        assigned = assign_stays(rows, stays, self.options.before_hours, self.options.after_hours)
        outside = assigned["stay_id"].null_count()
        exclusions["measurements and drugs outside of all stays"] += outside
        return assigned.drop_nulls("stay_id")

    def _make_batch(
        self,
        stays: pl.DataFrame,
        records: dict[str, pl.DataFrame],
        labelled: pl.DataFrame,
        exclusions: Counter[str],
    ) -> StayBatch:
        events = add_coma_totals(select_events(records["events"], exclusions))
        treatments = finish_treatments(records["treatments"])
        batch = StayBatch(
            stays=stays,
            events=add_derived(stays, events, treatments),
            treatments=treatments,
            episodes=labelled.filter(pl.col("stay_id").is_in(stays["stay_id"].implode())),
            attrition={"intensive care stays": stays.height},
        )
        options = self.options.sepsis3
        if not options:
            return batch
        inputs = LabelInputs(stays, events, treatments, records["antibiotics"], records["cultures"])
        sepsis3 = label(inputs, options)
        return replace(batch, episodes=sepsis3.episodes, source_counts=sepsis3.counts)

    def _read_episodes(self, stays: pl.DataFrame, exclusions: Counter[str]) -> pl.DataFrame:
        options = self.options
        if not options.labels:
            return empty_table("episodes")
        return build_episodes(
            read_labels(options.labels, options.time_zone),
            stays,
            options.label_lead_hours,
            options.label_known_after_hours,
            exclusions,
            options.response,
        )


def _iter_files(codes: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """The codes of each shard, with the position of the shard."""
    for file in codes["file"].unique().sort():
        yield int(file), codes.filter(file=file)


def _add_meaning(rows: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    """Add the columns of the mapping to the rows."""
    meaning = codes.drop("file", "rows")
    return rows.join(meaning, on="code", how="inner", maintain_order="left")


def _count_unmapped(codes: pl.DataFrame, exclusions: Counter[str]) -> None:
    totals = codes.group_by("code").agg(pl.col("rows").sum())
    totals = totals.sort("rows", "code", descending=[True, False])
    for code, rows in totals.head(NAMED_CODES).iter_rows():
        exclusions[f"the code {code!r} is not in the mapping"] += rows
    others = totals[NAMED_CODES:]
    exclusions[f"{others.height:,} other codes are not in the mapping"] += int(others["rows"].sum())
