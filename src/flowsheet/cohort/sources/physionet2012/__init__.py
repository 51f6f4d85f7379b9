"""The PhysioNet/Computing in Cardiology Challenge 2012: the first 48 hours, and death in hospital.

Silva et al., Comput Cardiol 39:245-248 (2012); https://physionet.org/content/challenge-2012/1.0.0/.
The input is a folder with ``set-a.zip`` (or the folder ``set-a``) and ``Outcomes-a.txt``, or the
zip alone with its outcomes beside it; likewise for the sets b and c. A stay is one file
``<RecordID>.txt`` with rows of Time, Parameter and Value.

**Time.** The files count hours and minutes from admission to intensive care, which is ``EPOCH``.
Every stay lasts 48 hours at least and is recorded for 48 hours: the record ends then. When a value
was in the record is not stated; it counts as known when it was true.

**Death.** ``Survival`` is the day of death after admission, whose noon is ``died_at`` (a day before
the end of the record counts as the hour after it, as every patient lived that long);
``In-hospital_death`` is ``hospital_death``. The response ``death`` follows from them.

**Values.** -1 is missing. ``FiO2`` is a fraction here and percent in the catalogue. Invasive and
cuff pressures are one variable; of both at one time the invasive one counts. Of several values at
one time the first counts, urine is summed. What was entered in a wrong unit is corrected where the
value names the mistake (``RULES_OF_UNITS``), each correction is counted, and other implausible
values are left to the contract. Cholesterol is not in the catalogue and is counted.

**Defects.** A file without the header, of another record than its name says, twice, not UTF-8 or
without an outcome quarantines the stay; a row with another number of fields, a time or a value that
cannot be read, that row alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort.completeness import HOURLY_NEEDS, Needs
from flowsheet.cohort.derived import add_derived, derivable_variables
from flowsheet.cohort.schema import EPOCH, EVENTS, SORT_KEYS, empty_table, to_contract
from flowsheet.cohort.sources.base import SOURCES, Source, StayBatch
from flowsheet.cohort.sources.physionet2012.files import ChallengeFiles, parse_rows
from flowsheet.cohort.sources.physionet2012.parameters import (
    PARAMETERS,
    UNITS_OF_CARE,
    correct_units,
)
from flowsheet.state.hashing import digest, file_digest

RECORD_HOURS = 48
STAYS_PER_BATCH = 2_000
LOWEST_ADULT_WEIGHT = 20.0
"""kg; the patients are 15 years and older."""
_NAMED = 5
"""How many stays a warning names."""
_CHARTED = tuple(dict.fromkeys(PARAMETERS.values()))


@SOURCES.register("physionet2012")
class PhysioNet2012(Source):
    """The text files of the stays, and their outcomes."""

    licence: str = "ODC-By 1.0 (PhysioNet, challenge-2012 1.0.0)"
    variables: tuple[str, ...] = (*_CHARTED, *derivable_variables(_CHARTED, ()))
    stay_columns: ClassVar[tuple[str, ...]] = (
        *("age", "sex", "height_cm", "weight_kg", "unit", "hospital_death", "died_at"),
    )
    rules: ClassVar[tuple[str, ...]] = (
        *("unreadable_file", "one_file_a_stay", "encoding", "columns", "record_id", "outcome"),
        *("fields", "time", "number"),
    )

    def __init__(self, path: Path | None, options: Any) -> None:
        super().__init__(path, options)
        assert path is not None
        self._files = ChallengeFiles.find(path)
        self._unknown: dict[str, int] = {}

    def needs(self) -> Needs:
        """The vital signs, of which every such record has some."""
        return HOURLY_NEEDS

    def warnings(self) -> list[str]:
        """Stays without a file, and parameters that are not read."""
        names = ", ".join(sorted(self._unknown))
        unknown = [f"the parameters {names} are not in the catalogue and not read"] if names else []
        return [*self._find_missing_files(), *unknown]

    def _find_missing_files(self) -> list[str]:
        found = {file.record for file in (*self._files.records, *self._files.repeated)}
        listed = self._files.read_outcomes()["record"]
        absent = sorted(set(listed) - found)
        if not absent:
            return []
        named = ", ".join(map(str, absent[:_NAMED]))
        return [
            f"FILES ARE MISSING: {len(absent):,} of the {len(listed):,} stays in the outcomes have "
            f"no file, such as {named}"
        ]

    def fingerprint(self) -> str:
        """sha256 of the records and outcomes."""
        return digest([[str(file.name), file_digest(file)] for file in self._files.all_files()])

    def batches(self) -> Iterator[StayBatch]:
        """Batches of stays in ascending order of their RecordID."""
        outcomes = self._files.read_outcomes()
        defects = [self._files.find_name_defects()]
        self._unknown = {}
        for records in self._files.read(STAYS_PER_BATCH):
            rows, found = parse_rows(records, outcomes)
            yield self._make_batch(rows, pl.concat([*defects, found]), len(records))
            defects = []

    def _make_batch(self, rows: pl.DataFrame, defects: pl.DataFrame, offered: int) -> StayBatch:
        counts: dict[str, int] = {}
        rows = self._drop_missing_and_unknown(rows, counts)
        rows = correct_units(rows, counts)
        is_light = (pl.col("parameter") == "Weight") & (pl.col("value") < LOWEST_ADULT_WEIGHT)
        counts[f"Weight below {LOWEST_ADULT_WEIGHT:g} kg, of no adult"] = rows.filter(
            is_light
        ).height
        rows = rows.filter(~is_light)
        stays = _make_stays(rows)
        events = _make_events(rows, counts)
        batch = StayBatch(
            stays=stays,
            events=add_derived(stays, events, empty_table("treatments")),
            defects=defects,
            attrition={"files of stays": offered, "readable": stays.height},
        )
        return replace(batch, exclusions={reason: n for reason, n in counts.items() if n})

    def _drop_missing_and_unknown(self, rows: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
        is_missing = pl.col("value") == -1
        counts["missing (-1)"] = rows.filter(is_missing).height
        rows = rows.filter(~is_missing)
        is_known = pl.col("parameter").is_in([*PARAMETERS, *_DESCRIPTORS])
        for name, n in rows.filter(~is_known)["parameter"].value_counts().sort("parameter").rows():
            counts[f"the parameter {name!r} is not in the catalogue"] = n
            self._unknown[name] = self._unknown.get(name, 0) + n
        return rows.filter(is_known)


_DESCRIPTORS = ("RecordID", "Age", "Gender", "Height", "ICUType")


def _after_admission(hours: pl.Expr) -> pl.Expr:
    return pl.lit(EPOCH) + pl.duration(microseconds=(hours * 3.6e9).round().cast(pl.Int64))


def _first(parameter: str) -> pl.Expr:
    return pl.col("value").filter(pl.col("parameter") == parameter).first()


def _make_stays(rows: pl.DataFrame) -> pl.DataFrame:
    descriptors = rows.filter(pl.col("minute") == 0)
    stays = (
        rows.select("record", "set", "survival", "hospital_death")
        .unique("record", maintain_order=True)
        .join(
            descriptors.group_by("record").agg(
                age=_first("Age"),
                gender=_first("Gender"),
                height_cm=_first("Height"),
                weight_kg=_first("Weight"),
                unit=_first("ICUType"),
            ),
            on="record",
            how="left",
            maintain_order="left",
        )
        .sort("record")
    )
    died = pl.max_horizontal((pl.col("survival") + 0.5) * 24, pl.lit(RECORD_HOURS + 1.0))
    contract = stays.select(
        stay_id="record",
        subject_id="record",
        site=pl.format("set {}", "set"),
        admitted_at=pl.lit(EPOCH),
        discharged_at=_after_admission(pl.lit(float(RECORD_HOURS))),
        died_at=pl.when(pl.col("survival") >= 0).then(_after_admission(died)),
        hospital_death="hospital_death",
        age="age",
        sex=pl.col("gender").replace_strict({0.0: "F", 1.0: "M"}, default=None),
        height_cm="height_cm",
        weight_kg="weight_kg",
        unit=pl.col("unit").replace_strict(UNITS_OF_CARE, default=None),
    )
    return to_contract("stays", contract)


def _make_events(rows: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    names = list(PARAMETERS)
    charted = rows.filter(pl.col("parameter").is_in(names))
    charted = charted.with_columns(
        variable=pl.col("parameter").replace_strict(PARAMETERS),
        order=pl.col("parameter").replace_strict({name: i for i, name in enumerate(names)}),
    )
    key = ["record", "minute", "variable"]
    charted = charted.sort(*key, "order", "row")
    total = pl.when(pl.col("variable") == "urine").then(pl.col("value").sum())
    events = charted.group_by(key, maintain_order=True).agg(
        value=total.otherwise(pl.col("value").first()).first()
    )
    counts["several values at one time: the first counts, urine is summed"] = (
        charted.height - events.height
    )
    time = _after_admission(pl.col("minute") / 60)
    named = events.with_columns(stay_id="record", time=time, known_at=time)
    return named.select(list(EVENTS)).cast(pl.Schema(EVENTS)).sort(SORT_KEYS["events"])
