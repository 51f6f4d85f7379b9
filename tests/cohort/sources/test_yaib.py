"""YAIB's files: what they mean, and what becomes of broken ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort import catalogue
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import EPOCH, Tables
from flowsheet.cohort.sources import yaib as module
from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.yaib import COLUMNS, Yaib
from flowsheet.compose import compose_cohort
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.errors import CheckFailed
from flowsheet.testing import yaib
from flowsheet.testing.sources import SourceConformance
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.sequences import Sequences

HOURLY = TaskConfig.model_validate(
    {"name": "hourly", "step_hours": 1, "horizon": 6, "censor": "keep"}
)


def source(path: Path, **options: float) -> Yaib:
    return Yaib(path, Yaib.Options(**options))


def run(folder: Path, target: Path, max_share: float = 1.0) -> Extract:
    config = yaib.cohort_config(folder, quarantine={"max_share": max_share})
    return ingest(make_source(config), config, target, lambda line: None)


def changed(cohort: yaib.Frames, file: str, row: int, **cells: object) -> yaib.Frames:
    """One row changed."""
    frame = cohort[file]
    values = {
        name: [cells.get(name, v) if i == row else v for i, v in enumerate(frame[name])]
        for name in cells
    }
    new = {name: pl.Series(v, dtype=frame[name].dtype, strict=False) for name, v in values.items()}
    return cohort | {file: frame.with_columns(**new)}


def without(cohort: yaib.Frames, file: str, keep: pl.Expr) -> yaib.Frames:
    return cohort | {file: cohort[file].filter(keep)}


def twice(cohort: yaib.Frames, file: str, row: int) -> yaib.Frames:
    return cohort | {file: pl.concat([cohort[file], cohort[file][row]])}


def asked(tables: Tables, variables: tuple[str, ...] = ("hr",)) -> Sequences:
    return build_sequences(
        tables, HOURLY, FeaturesConfig(name="f"), variables, (), collect_vocabulary(tables)
    )


class TestYaib(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return source(yaib.write_frames(folder, yaib.make_frames()))

    def make_shuffled(self, folder: Path) -> Source:
        shuffled = {
            name: f.sample(fraction=1, shuffle=True, seed=1)
            for name, f in yaib.make_frames().items()
        }
        return source(yaib.write_frames(folder, shuffled))

    def make_changed(self, folder: Path) -> Source:
        return source(yaib.write_frames(folder, changed(yaib.make_frames(), "dyn", 3, hr=61.5)))


class TestSmallBatches(TestYaib):
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "STAYS_A_BATCH", 1)


def test_an_hour_s_value_is_true_and_known_at_its_end(tmp_path: Path):
    cohort = changed(yaib.make_frames(), "dyn", 3, hr=61.5)
    tables = run(yaib.write_frames(tmp_path / "raw", cohort), tmp_path / "out").tables()
    (event,) = tables.events.filter(pl.col("value") == 61.5).rows()
    assert event == (11, EPOCH + timedelta(hours=4), EPOCH + timedelta(hours=4), "hr", 61.5)
    stay = tables.stays.row(0, named=True)
    assert (stay["admitted_at"], stay["discharged_at"]) == (EPOCH, EPOCH + timedelta(hours=12))
    assert (stay["age"], stay["sex"], stay["height_cm"], stay["weight_kg"]) == (
        60.0,
        "F",
        None,
        80.5,
    )
    assert (
        tables.stays["subject_id"].to_list()
        == tables.stays["stay_id"].to_list()
        == [11, 12, 13, 14]
    )


def test_onset_is_six_hours_after_the_label_turns_and_known_when_the_definition_is_met(
    tmp_path: Path,
):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    onset = EPOCH + timedelta(hours=yaib.ONSET + 1)
    assert run(raw, tmp_path / "out").tables().episodes.rows() == [
        (12, onset, None, onset + timedelta(hours=192))
    ]
    (batch,) = source(raw, label_known_after_hours=1, label_lead_hours=4).batches()
    early = onset - timedelta(hours=2)
    assert batch.episodes.rows() == [(12, early, None, early + timedelta(hours=1))]


def test_the_hourly_task_asks_yaib_s_own_label(tmp_path: Path):
    cohort = yaib.make_frames()
    rows = asked(run(yaib.write_frames(tmp_path / "raw", cohort), tmp_path / "out").tables())
    np.testing.assert_array_equal(rows.y, cohort["outc"]["label"].to_numpy())
    assert rows.scored.all()
    assert not np.nan_to_num(rows.history).any()


def test_missing_values_in_either_spelling_are_no_events(tmp_path: Path):
    cohort = yaib.make_frames()
    nans = cohort | {"dyn": cohort["dyn"].with_columns(pl.col("temp").fill_null(float("nan")))}
    one = run(yaib.write_frames(tmp_path / "nulls", cohort), tmp_path / "a")
    assert (
        run(yaib.write_frames(tmp_path / "nans", nans), tmp_path / "b").fingerprint
        == one.fingerprint
    )
    told = sum(cohort["dyn"][name].count() for name in ("hr", "temp", "urine"))
    assert one.manifest.counts["events"] == told


def test_hours_as_numbers_and_labels_as_numbers_mean_the_same(tmp_path: Path):
    cohort = yaib.make_frames()
    one = run(yaib.write_frames(tmp_path / "spans", cohort), tmp_path / "a")
    hour = pl.col("time").dt.total_hours()
    other = cohort | {
        "dyn": cohort["dyn"].with_columns(hour),
        "outc": cohort["outc"].with_columns(hour.cast(pl.Float64), pl.col("label").cast(pl.Int32)),
    }
    assert (
        run(yaib.write_frames(tmp_path / "numbers", other), tmp_path / "b").fingerprint
        == one.fingerprint
    )


def test_columns_that_no_variable_is_are_named_and_counted(tmp_path: Path):
    cohort = yaib.make_frames()
    extra = cohort | {
        "dyn": cohort["dyn"].with_columns(
            mood=pl.when(pl.col("hr") > 80).then(1.0), tgcs=pl.lit(15.0)
        ),
        "sta": cohort["sta"].with_columns(ethnic=pl.lit("other")),
    }
    manifest = run(yaib.write_frames(tmp_path / "raw", extra), tmp_path / "out").manifest
    assert dict(manifest.exclusions) == {
        "dyn.parquet: the column 'mood' is no variable that is known": (
            cohort["dyn"]["hr"] > 80
        ).sum(),
        "sta.parquet: the column 'ethnic' is no variable that is known": 4,
    }
    assert manifest.variables == ("hr", "temp", "urine", "gcs")


def test_a_column_of_subjects_is_taken(tmp_path: Path):
    cohort = yaib.make_frames()
    cohort["sta"] = cohort["sta"].with_columns(subject_id=pl.Series([7, 7, 8, 9]))
    manifest = run(yaib.write_frames(tmp_path / "raw", cohort), tmp_path / "out").manifest
    assert (manifest.counts["subjects"], manifest.counts["stays"], manifest.exclusions) == (
        3,
        4,
        (),
    )


def test_yaib_s_names_are_the_catalogue_s():
    assert set(COLUMNS.values()) <= set(catalogue.variables())


Spoil = Callable[[yaib.Frames], yaib.Frames]
ROW = 3  # hour 3 of stay 11
STAY = pl.col("stay_id") != 11
HOUR = pl.col("time") != timedelta(hours=3)
SPOILT: dict[str, tuple[Spoil, str, str]] = {
    "label of 2": (lambda c: with_numbers(c, 2.0), "label", "outc.parquet stay 11, hour 3.0"),
    "no label": (
        lambda c: changed(c, "outc", ROW, label=None),
        "label",
        "outc.parquet stay 11, hour 3.0",
    ),
    "label NaN": (
        lambda c: with_numbers(c, float("nan")),
        "label",
        "outc.parquet stay 11, hour 3.0",
    ),
    "label returns": (
        lambda c: changed(c, "outc", ROW, label=True),
        "label_returns",
        "outc.parquet stay 11, hour 4.0",
    ),
    "half an hour": (
        lambda c: changed(c, "dyn", ROW, time=timedelta(hours=3.5)),
        "hour_number",
        "dyn.parquet stay 11, hour 3.5",
    ),
    "hour below 0": (
        lambda c: changed(c, "outc", 0, time=timedelta(hours=-1)),
        "hour_number",
        "outc.parquet stay 11, hour -1.0",
    ),
    "no hour": (lambda c: changed(c, "dyn", ROW, time=None), "hour_number", "dyn.parquet stay 11"),
    "hour twice": (
        lambda c: twice(c, "dyn", ROW),
        "duplicate_hour",
        "dyn.parquet stay 11, hour 3.0",
    ),
    "label twice": (
        lambda c: twice(c, "outc", ROW),
        "duplicate_hour",
        "outc.parquet stay 11, hour 3.0",
    ),
    "gap": (
        lambda c: without(c, "outc", STAY | HOUR),
        "missing_hour",
        "outc.parquet stay 11, hour 4.0",
    ),
    "label ends early": (
        lambda c: without(c, "outc", STAY | (pl.col("time") < timedelta(hours=9))),
        "same_hours",
        "dyn.parquet stay 11, hour 0.0",
    ),
    "no row in sta": (lambda c: without(c, "sta", STAY), "in_every_file", "sta.parquet stay 11"),
    "no row in dyn": (lambda c: without(c, "dyn", STAY), "in_every_file", "dyn.parquet stay 11"),
    "no row in outc": (lambda c: without(c, "outc", STAY), "in_every_file", "outc.parquet stay 11"),
    "person twice": (lambda c: twice(c, "sta", 0), "duplicate_stay", "sta.parquet stay 11"),
    "sex unheard of": (lambda c: changed(c, "sta", 0, sex="Klingon"), "known_sex", "stay 11"),
    "age of 400": (lambda c: changed(c, "sta", 0, age=400.0), "plausible_range", "stay 11"),
}


def with_numbers(cohort: yaib.Frames, value: float) -> yaib.Frames:
    cohort["outc"] = cohort["outc"].with_columns(pl.col("label").cast(pl.Float64))
    return changed(cohort, "outc", ROW, label=value)


@pytest.mark.parametrize("case", SPOILT)
def test_a_broken_stay_is_named_and_set_aside_alone(tmp_path: Path, case: str):
    spoil, rule, key = SPOILT[case]
    extract = run(yaib.write_frames(tmp_path / "raw", spoil(yaib.make_frames())), tmp_path / "out")
    lines = pl.read_parquet(extract.path / "quarantine.parquet").filter(rule=rule)
    assert lines.height == 1
    assert (lines["table"][0], lines["key"][0]) == ("stays", key)
    tables = extract.tables()
    assert tables.stays["stay_id"].to_list() == [12, 13, 14]
    assert set(tables.events["stay_id"]) == {12, 13, 14}
    with pytest.raises(CheckFailed, match=rule):
        run(tmp_path / "raw", tmp_path / "strict", max_share=0.02)


@pytest.mark.parametrize(("value", "rule"), [(5000.0, "plausible_range"), (float("inf"), "finite")])
def test_one_impossible_measurement_is_set_aside_alone(tmp_path: Path, value: float, rule: str):
    before = run(
        yaib.write_frames(tmp_path / "sound", yaib.make_frames()), tmp_path / "a"
    ).manifest.counts
    spoilt = changed(yaib.make_frames(), "dyn", ROW, hr=value)
    manifest = run(yaib.write_frames(tmp_path / "raw", spoilt), tmp_path / "b").manifest
    assert [(q.table, q.rule, q.rows) for q in manifest.quarantined] == [("events", rule, 1)]
    assert manifest.counts == before | {"events": before["events"] - 1}


TEXT = pl.lit("x")
REFUSED: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "dyn without hours": (lambda c: c | {"dyn": c["dyn"].drop("time")}, ("dyn.parquet", "'time'")),
    "a label a stay": (
        lambda c: c | {"outc": c["outc"].drop("time")},
        ("outc.parquet", "hourly task"),
    ),
    "no label": (lambda c: c | {"outc": c["outc"].drop("label")}, ("outc.parquet", "'label'")),
    "no sex": (lambda c: c | {"sta": c["sta"].drop("sex")}, ("sta.parquet", "'sex'", "empty")),
    "text for numbers": (
        lambda c: c | {"dyn": c["dyn"].with_columns(hr=TEXT)},
        ("'hr'", "String", "numbers"),
    ),
    "text for ids": (
        lambda c: c | {"sta": c["sta"].with_columns(stay_id=TEXT)},
        ("'stay_id'", "whole numbers"),
    ),
    "dates for hours": (
        lambda c: c | {"dyn": c["dyn"].with_columns(time=pl.lit(EPOCH))},
        ("'time'", "Datetime", "hours since admission"),
    ),
    "text for labels": (
        lambda c: c | {"outc": c["outc"].with_columns(label=TEXT)},
        ("'label'", "String"),
    ),
    "a row of nobody": (
        lambda c: changed(c, "dyn", ROW, stay_id=None),
        ("1 rows name no stay", "dyn.parquet"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_cohort_is_refused_with_file_and_column(tmp_path: Path, case: str):
    spoil, parts = REFUSED[case]
    raw = yaib.write_frames(tmp_path / "raw", spoil(yaib.make_frames()))
    with pytest.raises(CheckFailed) as refused:
        run(raw, tmp_path / "out")
    assert all(part in str(refused.value) for part in parts), str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"PAR1 this is no parquet", "cut"])
def test_a_missing_or_damaged_file_is_named(tmp_path: Path, content: bytes | str | None):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    file = raw / "outc.parquet"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100] if isinstance(content, str) else content)
    with pytest.raises(CheckFailed, match=r"outc\.parquet"):
        run(raw, tmp_path / "out")


def test_a_damaged_page_is_named(tmp_path: Path):
    raw = yaib.write_frames(tmp_path / "raw", yaib.make_frames())
    file = raw / "dyn.parquet"
    data = bytearray(file.read_bytes())
    data[4:60] = b"\xff" * 56
    file.write_bytes(bytes(data))
    with pytest.raises(CheckFailed, match=r"dyn\.parquet"):
        run(raw, tmp_path / "out")


@pytest.fixture(scope="module")
def demo(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Extract]:
    path = data_dir / "yaib" / "sepsis_mimic_demo"
    config = compose_cohort("yaib", [f"cohort.path={path}"])
    return path, ingest(
        make_source(config), config, tmp_path_factory.mktemp("yaib") / "out", lambda line: None
    )


@pytest.mark.realdata
class TestDemo:
    def test_every_value_is_an_event_and_nothing_else(self, demo: tuple[Path, Extract]):
        path, extract = demo
        dyn = pl.read_parquet(path / "dyn.parquet")
        told = dyn.unpivot(index=["stay_id", "time"], variable_name="variable").drop_nulls("value")
        at = pl.lit(EPOCH) + pl.col("time") + pl.duration(hours=1)
        told = told.select(
            pl.col("stay_id").cast(pl.Int64),
            at.cast(pl.Datetime("us")).alias("time"),
            "variable",
            "value",
        )
        events = extract.tables().events.drop("known_at")
        keys = ["stay_id", "time", "variable"]
        lost = told.join(events, on=keys, how="anti")
        assert events.sort(keys).equals(told.join(lost, on=keys, how="anti").sort(keys))
        assert (
            lost.height == sum(q.rows for q in extract.manifest.quarantined) < 0.001 * told.height
        )
        assert extract.manifest.exclusions == ()

    def test_every_hour_asks_the_cohort_s_own_label(self, demo: tuple[Path, Extract]):
        path, extract = demo
        rows = asked(extract.tables(), extract.manifest.variables)
        labels = pl.read_parquet(path / "outc.parquet").sort("stay_id", "time")["label"].to_numpy()
        np.testing.assert_array_equal(rows.y, labels)
        assert extract.manifest.counts["stays"] == 115
        assert (len(rows.y), rows.y.sum(), rows.scored.all()) == (7_707, 13, True)

    def test_the_open_cohort_keeps_the_source_s_laws(
        self, demo: tuple[Path, Extract], tmp_path: Path
    ):
        path, _ = demo
        suite = TestYaib()
        suite.make_source = lambda folder: source(path)  # type: ignore[method-assign]
        for law in (
            "batches_have_the_columns_and_types_of_the_contract",
            "stays_ascend_within_and_across_batches",
        ):
            getattr(suite, f"test_{law}")(tmp_path)
        suite.test_only_known_concepts_are_declared_and_returned(tmp_path)
        suite.test_an_extract_has_the_rows_of_the_batches(tmp_path)
