"""Intensive care stays from the admissions, discharges and demographics of a MEDS data set."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from flowsheet.cohort.rules import HOSPITAL_TOLERANCE_HOURS
from flowsheet.cohort.schema import to_contract
from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.cohort.sources.meds.shards import STAY

KINDS = (
    *("icu_admission", "icu_discharge", "hospital_admission", "birth", "death", "sex", "age"),
    "hospital_death",
)
RULES = (
    "icu_admission_twice",
    "admission_without_discharge",
    "discharge_without_admission",
    "admission_time",
    "admission_after_death",
)
SHIFTED_YEARS = 200.0
SHIFTED_AGE = 91.4
"""Ages above ``SHIFTED_YEARS`` are replaced by ``SHIFTED_AGE``: MIMIC-III shifts the births of
patients over 89 by 300 years; their median age is 91.4 (Johnson et al., Scientific Data 3:160035,
2016)."""

_YEAR = timedelta(days=365.2425)
_DEATH_WORDS = "expired|dead|died|deceased"
_CHARTED_LATE = timedelta(hours=6)
"""Vital signs may be charted that long after a discharge from the hospital."""
_COLUMNS = ("stay_id", "subject_id", "admitted_at", "discharged_at", "unit")


def find_runs(hours: pl.DataFrame, gap_hours: float) -> pl.DataFrame:
    """Stays of a data set that does not tell of any: runs of vital signs without a longer gap.

    Args:
        hours: (subject_id, first, last), sorted, as of ``Shards.find_hours``.
        gap_hours: the longest gap within a stay.

    Returns:
        (stay_id, subject_id, admitted_at, discharged_at, unit).
    """
    pause = pl.col("first") - pl.col("last").shift(1).over("subject_id")
    is_start = (pause > pl.duration(seconds=round(gap_hours * 3600))).fill_null(value=True)
    runs = hours.group_by("subject_id", run=is_start.cum_sum()).agg(
        admitted_at=pl.col("first").min(), discharged_at=pl.col("last").max()
    )
    runs = runs.sort("subject_id", "admitted_at").with_columns(unit=pl.lit(None, pl.String))
    return runs.with_columns(stay_id=pl.int_range(1, pl.len() + 1)).select(_COLUMNS)


def build_stays(
    rows: pl.DataFrame, runs: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The contract's stays, in order, and the defects of unusable admissions and discharges.

    Args:
        rows: the columns of ``shards.ROWS``, ``kind`` and ``name``, in any order.
        runs: the stays of ``find_runs``, where no code tells of admissions and discharges.
    """
    is_dated = pl.col("time").is_not_null() | pl.col("kind").is_in(["birth", "sex"])
    dated = rows.filter(is_dated)
    undated = rows.join(dated, on=rows.columns, how="anti", nulls_equal=True)
    order = ["subject_id", "time", "code", STAY]
    admissions = dated.filter(kind="icu_admission").unique().sort(order)
    discharges = dated.filter(kind="icu_discharge").unique().sort(order)
    have_ids = admissions.height > 0 and admissions[STAY].null_count() == 0
    pair = _pair_by_id if have_ids else _pair_by_time
    stays, defects = (runs, []) if runs is not None else pair(admissions, discharges)
    stays = _add_demographics(_add_hospital_admission(stays, dated), dated)
    is_dead = (pl.col("died_at") <= pl.col("admitted_at")).fill_null(value=False)
    dead = stays.filter(is_dead)
    dead = dead.select("subject_id", time="admitted_at", code=pl.lit("admission"))
    defects += [
        _make_defects(undated, "admission_time"),
        _make_defects(dead, "admission_after_death"),
    ]
    end = pl.min_horizontal("discharged_at", "died_at").alias("discharged_at")
    return stays.filter(~is_dead).with_columns(end), pl.concat(defects)


def _pair_by_id(
    admissions: pl.DataFrame, discharges: pl.DataFrame
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Stays with the ids of the database: an admission and a discharge with the same id."""
    key = ["subject_id", STAY]
    is_repeated = pl.col(STAY).is_duplicated()
    last = discharges.sort("time").unique(key, keep="last", maintain_order=True)
    last = last.select(*key, discharged_at="time")
    pairs = admissions.filter(~is_repeated)
    pairs = pairs.join(last, on=key, how="left", maintain_order="left")
    open_ended = pairs.filter(pl.col("discharged_at").is_null())
    unpaired = discharges.join(admissions, on=key, how="anti", maintain_order="left")
    defects = [
        _make_defects(admissions.filter(is_repeated), "icu_admission_twice"),
        _make_defects(open_ended, "admission_without_discharge"),
        _make_defects(unpaired, "discharge_without_admission"),
    ]
    return _finish_pairs(pairs.with_columns(stay_id=STAY)), defects


def _pair_by_time(
    admissions: pl.DataFrame, discharges: pl.DataFrame
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Stays numbered in order of subject and time.

    An admission is paired with the next discharge, unless another admission comes first.
    """
    is_repeated = pl.struct("subject_id", "time").is_duplicated()
    repeated = admissions.filter(is_repeated)
    next_admission = pl.col("time").shift(-1).over("subject_id", order_by="time")
    admissions = admissions.filter(~is_repeated).with_columns(next=next_admission).sort("time")
    pairs = admissions.join_asof(
        discharges.select("subject_id", discharged_at="time").sort("discharged_at"),
        left_on="time",
        right_on="discharged_at",
        by="subject_id",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    ).sort("subject_id", "time")
    is_before_next = pl.col("next").is_null() | (pl.col("discharged_at") <= pl.col("next"))
    discharged_at = pl.when(is_before_next).then("discharged_at")
    pairs = pairs.with_columns(discharged_at=discharged_at)
    paired = pairs.select("subject_id", time="discharged_at").drop_nulls()
    open_ended = pairs.filter(pl.col("discharged_at").is_null())
    unpaired = discharges.join(paired, on=["subject_id", "time"], how="anti", maintain_order="left")
    defects = [
        _make_defects(repeated, "icu_admission_twice"),
        _make_defects(open_ended, "admission_without_discharge"),
        _make_defects(unpaired, "discharge_without_admission"),
    ]
    return _finish_pairs(pairs.with_columns(stay_id=pl.int_range(1, pl.len() + 1))), defects


def _finish_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """The stays with an end, and the care unit in the code of the admission."""
    stays = pairs.with_columns(admitted_at="time", unit=_second_part(pl.col("code")))
    return stays.drop_nulls("discharged_at").select(_COLUMNS).sort("stay_id")


def _second_part(code: pl.Expr) -> pl.Expr:
    """The part of a code between its first and second ``//``; null for ``UNK`` or nothing."""
    part = code.str.split("//").list.get(1, null_on_oob=True)
    return pl.when(~part.is_in(["", "UNK"])).then(part)


def _add_hospital_admission(stays: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Add the last hospital admission before the stay, or shortly after its start."""
    admissions = rows.filter(kind="hospital_admission").sort("time", "code")
    admissions = admissions.select(
        "subject_id", hospital_admitted_at="time", admission_type=_second_part(pl.col("code"))
    )
    limit = pl.col("admitted_at") + timedelta(hours=HOSPITAL_TOLERANCE_HOURS)
    joined = (
        stays.with_columns(limit=limit)
        .sort("limit")
        .join_asof(
            admissions,
            left_on="limit",
            right_on="hospital_admitted_at",
            by="subject_id",
            check_sortedness=False,
        )
    )
    return joined.drop("limit").sort("stay_id")


def _add_demographics(stays: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Add age, sex and death, and the remaining columns of the contract.

    A death at midnight has a date only; the patient may live until the end of that day.
    """
    is_age = (pl.col("kind") == "age") & pl.col("value").is_not_null()
    subjects = (
        rows.sort("time", "code", "name", nulls_last=True)
        .group_by("subject_id")
        .agg(
            born=pl.col("time").filter(pl.col("kind") == "birth").first(),
            died=pl.col("time").filter(pl.col("kind") == "death").first(),
            sex=_find_sex().filter(pl.col("kind") == "sex").drop_nulls().first(),
            aged_at=pl.col("time").filter(is_age).first(),
            age_then=pl.col("value").filter(is_age).first(),
        )
    )
    birth = pl.coalesce("born", pl.col("aged_at") - pl.col("age_then") * _YEAR)
    years = (pl.col("admitted_at") - birth).dt.total_seconds() / _YEAR.total_seconds()
    joined = stays.join(subjects, on="subject_id", how="left", maintain_order="left")
    joined = _add_hospital_death(joined, rows)
    died = pl.col("died")
    has_date_only = died == died.dt.truncate("1d")
    died = pl.when(has_date_only).then(died + pl.duration(days=1)).otherwise(died)
    columns = joined.select(
        "stay_id",
        "subject_id",
        hospital_admitted_at="hospital_admitted_at",
        admitted_at="admitted_at",
        discharged_at="discharged_at",
        died_at=pl.coalesce(died, "died_in_hospital_at"),
        hospital_death="hospital_death",
        age=pl.when(years > SHIFTED_YEARS).then(SHIFTED_AGE).otherwise(years),
        sex="sex",
        unit="unit",
        admission_type="admission_type",
    )
    return to_contract("stays", columns)


def _find_sex() -> pl.Expr:
    """The name of the mapping; else the first letter of the last part of the row's text."""
    text = pl.col("text").str.split("//").list.last().str.head(1).str.to_uppercase()
    return pl.coalesce("name", pl.when(text.is_in(["F", "M"])).then(text))


def _add_hospital_death(stays: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Add ``hospital_death`` and ``died_in_hospital_at``, from rows that say how a stay ended.

    It is the first such row after the stay where a data set writes them at the discharge from the
    hospital, and the last one before where it writes them at the admission; if there is none, the
    other one. Who died did so at the time of that row, and not before the end of the last stay that
    ends with it.
    """
    word = pl.col("text").str.to_lowercase()
    is_dead = pl.col("value") > 0
    is_dead = is_dead.fill_null(pl.when(word.is_not_null()).then(word.str.contains(_DEATH_WORDS)))
    ends = rows.filter(kind="hospital_death").select("subject_id", "time", dead=is_dead)
    ends = ends.drop_nulls().sort("time", "dead")
    stays = stays.with_columns(_limit=pl.col("discharged_at") - _CHARTED_LATE).sort("_limit")
    for strategy in ("forward", "backward"):
        stays = stays.join_asof(
            ends.select("subject_id", pl.col("time", "dead").name.suffix(f"_{strategy}")),
            left_on="_limit",
            right_on=f"time_{strategy}",
            by="subject_id",
            strategy=strategy,
            check_sortedness=False,
        )
    order = ("forward", "backward") if _are_ends_at_discharge(stays) else ("backward", "forward")
    dead = pl.coalesce(f"dead_{strategy}" for strategy in order)
    stays = stays.with_columns(_end=pl.coalesce(f"time_{strategy}" for strategy in order))
    time = pl.max_horizontal("_end", "discharged_at").max().over("subject_id", "_end")
    return stays.with_columns(
        hospital_death=dead, died_in_hospital_at=pl.when(dead).then(time)
    ).sort("stay_id")


def _are_ends_at_discharge(stays: pl.DataFrame) -> bool:
    """Whether most patients have an end after their last stay: no later admission can have it."""
    is_last = pl.col("admitted_at") == pl.col("admitted_at").max().over("subject_id")
    has_end = pl.any_horizontal(pl.col("time_forward", "time_backward").is_not_null())
    last = stays.filter(is_last & has_end)
    return 2 * last["time_forward"].count() >= last.height


def _make_defects(rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    time = pl.col("time").dt.to_string("%Y-%m-%d %H:%M:%S").fill_null("no time")
    return rows.select(
        table=pl.lit("stays"),
        key=pl.format("subject {}, {}", "subject_id", time),
        column=pl.lit("code"),
        rule=pl.lit(rule),
        value=pl.col("code"),
    ).cast(pl.Schema(DEFECTS))
