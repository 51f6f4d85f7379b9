"""Match rows of the raw tables to stays."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.completeness import UNKNOWN_SUBJECT
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.stays import Stays
from flowsheet.typing import Bools, Ints, Ints32

_MICROSECONDS_PER_SECOND = 1_000_000
_NO_STAY = np.iinfo(np.int64).max
"""The stay's id of a row without a stay; greater than all others."""
_MAX_TABLE_ID = 10_000_000
"""Ids up to this are looked up in an array; the database's have six digits."""


class IdIndex:
    """Positions of ids in a sorted list: an array for small ids, binary search for the others."""

    def __init__(self, ids: Ints) -> None:
        self._ids = ids
        small = ids[(ids >= 0) & (ids < _MAX_TABLE_ID)]
        self._positions = np.full(int(small.max(initial=0)) + 2, -1, np.int32)
        self._positions[small] = np.searchsorted(ids, small)

    def find(self, ids: Ints) -> Ints32:
        """The position of each id; -1 where it is not in the list."""
        last = len(self._positions) - 1  # this entry is always -1
        positions = self._positions[np.clip(ids, 0, last)]
        outside = np.flatnonzero((ids < 0) | (ids >= last))
        if not len(outside):
            return positions
        positions[outside] = -1
        if len(self._ids):
            nearest = np.searchsorted(self._ids, ids[outside])
            nearest = np.minimum(nearest, len(self._ids) - 1)
            is_equal = self._ids[nearest] == ids[outside]
            positions[outside] = np.where(is_equal, nearest, -1)
        return positions


class StayMatcher:
    """Find each row's stay: the one that the row names, else its patient's stay at its time."""

    def __init__(self, stays: Stays, stay_column: str | None = "stay_id") -> None:
        """``stay_column``: the database's name of the stay's id, for the counts; None: no ids."""
        without = f"without {stay_column.upper()}, and " if stay_column else ""
        self._no_stay = f"{without}no stay at that time"
        self._admissions = stays.subjects
        windows = stays.windows
        subjects = windows["subject_id"].to_numpy()
        self._subject_index = IdIndex(np.unique(subjects))
        self._patients = None if stays.patients is None else IdIndex(stays.patients)
        self._stay_ids = windows["stay_id"].to_numpy()
        self._subjects = subjects
        self._starts = windows["start"].to_physical().to_numpy()
        self._ends = windows["end"].to_physical().to_numpy()
        # Keys sort windows by subject and start: the subject's rank times the span of all times.
        self._first_second = 0
        self._span = 3
        if len(windows):
            self._first_second = int(self._starts.min()) // _MICROSECONDS_PER_SECOND
            last_second = int(self._ends.max()) // _MICROSECONDS_PER_SECOND
            self._span = last_second - self._first_second + 3
        self._keys = self._make_keys(subjects, self._starts)
        # By the position among all stays, with one entry more for "no stay" (position -1):
        self._known = IdIndex(stays.all_ids)
        self._stay_number = np.append(IdIndex(stays.ids).find(stays.all_ids), np.int32(-1))
        self._window_start = np.full(len(self._stay_number), _NO_STAY)
        self._window_end = np.full(len(self._stay_number), -_NO_STAY)
        positions = self._known.find(self._stay_ids)
        self._window_start[positions] = self._starts
        self._window_end[positions] = self._ends

    def match(self, rows: pl.DataFrame, table: str, time: str, log: ExclusionLog) -> pl.DataFrame:
        """Keep the rows that belong to a selected stay.

        Args:
            rows: rows with subject_id or hadm_id, and stay_id where the table has it (it may be
                null).
            table: name of the raw table.
            time: the column with the row's time; rows without a time are dropped.
            log: receives the rows outside their stay's window, and as defects (``unknown_stay``,
                ``unknown_admission``) those that name a stay or an admission that does not exist.

        Returns:
            The rows with ``stay``, the number of the stay among the selected ones, instead of
            subject_id and stay_id.
        """
        rows = log.exclude(rows, pl.col(time).is_null(), f"{table}: without a time")
        rows = self._add_subjects(rows, table, log)
        has_ids = "stay_id" in rows.columns
        is_counted = has_ids or "hadm_id" in rows.columns
        if not has_ids:
            rows = rows.with_columns(stay_id=pl.lit(None, pl.Int64))
        is_unnamed = rows["stay_id"].is_null().to_numpy()
        stay_ids = rows["stay_id"].fill_null(_NO_STAY).to_numpy()
        if is_unnamed.any():
            stay_ids = stay_ids.copy()
            unnamed = rows.filter(pl.Series(is_unnamed))
            self._count_unknown_subjects(unnamed, table, log)
            stay_ids[is_unnamed] = self._find_by_time(unnamed, time)
        positions = self._known.find(stay_ids)
        number = self._stay_number[positions]
        is_selected = number >= 0
        times = rows[time].to_physical().to_numpy()
        is_inside = is_selected & (times >= self._window_start[positions])
        is_inside &= times <= self._window_end[positions]
        if has_ids:
            is_unknown = (positions < 0) & (stay_ids != _NO_STAY)
            unknown = pl.lit(pl.Series(is_unknown))
            log.reject(rows, unknown, table, "stay_id", "unknown_stay")
            log.counts[f"{table}: outside the stay"] += _count(is_selected & ~is_inside)
        if is_counted:
            log.counts[f"{table}: {self._no_stay}"] += _count(is_unnamed & ~is_selected)
        matched = rows.drop("subject_id", "stay_id", "hadm_id", strict=False)
        matched = matched.with_columns(stay=pl.Series(number))
        return matched.filter(pl.Series(is_inside))

    def _add_subjects(self, rows: pl.DataFrame, table: str, log: ExclusionLog) -> pl.DataFrame:
        """The rows, those without a subject with that of their hospital admission.

        Args:
            rows: rows with subject_id or hadm_id.
            table: name of the raw table.
            log: receives the rows without an admission, or of one that does not exist.
        """
        if "subject_id" not in rows.columns:
            rows = log.exclude(rows, pl.col("hadm_id").is_null(), f"{table}: without an admission")
            rows = rows.with_columns(subject_id=pl.lit(None, pl.Int64))
        if "hadm_id" not in rows.columns or not rows["subject_id"].null_count():
            return rows
        found = self._admissions.rename({"subject_id": "_subject_id"})
        joined = rows.join(found, on="hadm_id", how="left", maintain_order="left")
        subject = pl.coalesce("subject_id", "_subject_id")
        rows = joined.with_columns(subject_id=subject).drop("_subject_id")
        is_unknown = pl.col("subject_id").is_null() & pl.col("hadm_id").is_not_null()
        unknown = rows.filter(is_unknown)
        if unknown.is_empty():
            return rows
        unknown = unknown.unique("row", keep="first", maintain_order=True)  # of several values
        log.reject(unknown, pl.lit(value=True), table, "hadm_id", "unknown_admission")
        return rows.filter(~is_unknown)

    def _count_unknown_subjects(self, rows: pl.DataFrame, table: str, log: ExclusionLog) -> None:
        if self._patients is None:
            return
        subjects = rows["subject_id"].drop_nulls().to_numpy()
        if n := _count(self._patients.find(subjects) < 0):
            log.counts[f"{table}: {UNKNOWN_SUBJECT}"] += n

    def _find_by_time(self, rows: pl.DataFrame, time: str) -> Ints:
        """Ids of the stays in whose window the rows lie; ``_NO_STAY`` where there is none."""
        subjects = rows["subject_id"].fill_null(-1).to_numpy()
        times = rows[time].to_physical().to_numpy()
        if not len(self._keys) or not len(subjects):
            return np.full(len(subjects), _NO_STAY)
        window = np.searchsorted(self._keys, self._make_keys(subjects, times), "right") - 1
        has_window = window >= 0
        window = np.maximum(window, 0)
        is_inside = (
            has_window
            & (self._subjects[window] == subjects)
            & (times >= self._starts[window])
            & (times <= self._ends[window])
        )
        return np.where(is_inside, self._stay_ids[window], _NO_STAY)

    def _make_keys(self, subjects: Ints, times: Ints) -> Ints:
        rank = self._subject_index.find(subjects).astype(np.int64)
        seconds = times // _MICROSECONDS_PER_SECOND - self._first_second
        return np.asarray(rank * self._span + np.clip(seconds, -1, self._span - 2))


def _count(mask: Bools) -> int:
    return int(np.count_nonzero(mask))
