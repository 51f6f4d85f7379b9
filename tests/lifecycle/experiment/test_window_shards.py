"""Windows in shards: the same rows as in memory, in any shards."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flowsheet.cohort import stay_digests
from flowsheet.cohort.extract import Extract, Provenance
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.stay_digests import CONTENT, digest_stays
from flowsheet.cohort.writer import write_extract
from flowsheet.config import CohortConfig, FeaturesConfig, TaskConfig
from flowsheet.lifecycle.experiment import stage as stage_module
from flowsheet.lifecycle.experiment import window_shards
from flowsheet.lifecycle.experiment.prepare import build_extract_windows, load_summary
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.sequences import Sequences

TASK = TaskConfig(name="early", step_hours=6, horizon=2, history_lags=2)
FEATURES = FeaturesConfig(name="f", aggregations=("last", "max", "count"))
WARD = CohortConfig(name="ward", source="simulated", options={"stays": 24})


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Extract:
    return ingest(make_source(WARD), WARD, tmp_path_factory.mktemp("ward") / "extract", print)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four stays."""
    monkeypatch.setattr(window_shards, "STAYS_PER_BATCH", 4)
    monkeypatch.setattr(stage_module, "_verified", {})


def change(extract: Extract, folder: Path, **changed: pl.DataFrame) -> Extract:
    """The extract with other tables."""
    tables = Tables(**{**vars(extract.tables()), **changed})
    provenance = {name: getattr(extract.manifest, name) for name in Provenance.model_fields}
    return write_extract(tables, folder, Provenance(**provenance))


def select(extract: Extract, folder: Path, stays: pl.Expr) -> Extract:
    """Some of the stays."""
    tables = vars(extract.tables())
    return change(extract, folder, **{name: rows.filter(stays) for name, rows in tables.items()})


def build(extract: Extract) -> Stage:
    return build_extract_windows(extract, TASK, FEATURES)


def load(windows: Stage) -> Sequences:
    return Sequences.load(windows.folder / "sequences")


def build_in_memory(extract: Extract) -> Sequences:
    tables = extract.tables()
    variables, drugs = extract.manifest.variables, extract.manifest.drugs
    return build_sequences(tables, TASK, FEATURES, variables, drugs, collect_vocabulary(tables))


def assert_equal(sequences: Sequences, expected: Sequences) -> None:
    """Equal to the last bit."""
    for field in fields(Sequences):
        value, wanted = getattr(sequences, field.name), getattr(expected, field.name)
        if field.name == "features" or wanted is None:
            assert value == wanted
            continue
        value, wanted = np.asarray(value), np.asarray(wanted)
        assert value.dtype == wanted.dtype, field.name
        assert value.shape == wanted.shape, field.name
        assert value.tobytes() == wanted.tobytes(), field.name


def shards() -> dict[str, int]:
    """When each shard in the store was written."""
    folder = stage_module.Store.open().root / "shard"
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_rows_are_those_in_memory(ward: Extract):
    windows = build(ward)
    assert len(shards()) == 6
    assert_equal(load(windows), build_in_memory(ward))
    assert build(ward).reused


def test_a_stored_row_takes_a_third_of_its_bytes_at_most(ward: Extract):
    hourly = TaskConfig(name="hourly", step_hours=1, horizon=6)
    windows = build_extract_windows(ward, hourly, FeaturesConfig(name="f"))
    shards = Path(windows.path).parents[1] / "shard"
    stored = sum(file.stat().st_size for file in shards.rglob("*") if file.is_file())
    assert stored <= load(windows).x.nbytes / 3


def test_only_new_and_changed_stays_are_built(ward: Extract, tmp_path: Path):
    """They go into a shard of their own."""
    ids = ward.tables().stays["stay_id"]
    build(select(ward, tmp_path / "most", ~pl.col("stay_id").is_in([ids[1], ids[9]])))
    before = shards()
    events = ward.tables().events.with_columns(
        value=pl.when(pl.col("stay_id") == ids[4]).then(pl.col("value") + 1).otherwise("value")
    )
    changed = change(ward, tmp_path / "changed", events=events)
    windows = build(changed)
    new = shards().keys() - before.keys()
    assert before.items() <= shards().items()
    (shard,) = new
    built = pl.read_parquet(Path(windows.path).parents[1] / "shard" / shard / "stays.parquet")
    assert built["stay_id"].to_list() == sorted([ids[1], ids[4], ids[9]])
    assert_equal(load(windows), build_in_memory(changed))


def test_deleted_stays_and_other_sizes_of_shards_change_nothing(
    ward: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    few = select(ward, tmp_path / "few", pl.col("stay_id") % 3 > 0)
    build(ward)
    before = shards()
    monkeypatch.setattr(window_shards, "STAYS_PER_BATCH", 7)
    windows = build(few)
    assert shards() == before
    assert_equal(load(windows), build_in_memory(few))
    assert load_summary(windows)["stays"] == len(load(windows))


def test_the_summary_does_not_depend_on_shards(ward: Extract, monkeypatch: pytest.MonkeyPatch):
    one = load_summary(build(ward))
    stage_module.Store.open().root.rename(stage_module.Store.open().root.with_name("other"))
    monkeypatch.setattr(window_shards, "ROWS_PER_SHARD", 10)
    assert load_summary(build(ward)) == one
    assert len(shards()) > 6


def test_an_interrupted_build_goes_on(ward: Extract, monkeypatch: pytest.MonkeyPatch):
    save, saved = window_shards.save_shard, []

    def stop(folder: Path, parts: object) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(save(folder, parts))

    with monkeypatch.context() as patch:
        patch.setattr(window_shards, "save_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            build(ward)
    before = shards()
    assert len(before) == 3
    windows = build(ward)
    assert before.items() <= shards().items()
    assert_equal(load(windows), build_in_memory(ward))


@pytest.mark.parametrize("file", ["x.zst", "rows.parquet", None])
def test_a_damaged_or_missing_shard_is_built_again(
    ward: Extract, file: str | None, capsys: pytest.CaptureFixture[str]
):
    windows = build(ward)
    shard = sorted((Path(windows.path).parents[1] / "shard").iterdir())[2]
    if file:
        (shard / file).write_bytes(b"other")
    else:
        shard.rename(shard.with_name(".away"))
    stage_module._verified.clear()
    with pytest.raises(Exception, match=f"shard {shard.name}"):
        _ = windows.folder
    again = build(ward)
    assert not again.reused
    assert "building it again" in capsys.readouterr().err
    assert_equal(load(again), build_in_memory(ward))


def test_an_extract_without_rows_has_windows_without_rows(ward: Extract, tmp_path: Path):
    nobody = select(ward, tmp_path / "nobody", pl.col("stay_id") < 0)
    windows = build(nobody)
    assert_equal(load(windows), build_in_memory(nobody))


def test_digests_depend_on_every_value_of_a_stay_and_on_nothing_else(ward: Extract, tmp_path: Path):
    tables = ward.tables()
    before = digest_stays(ward).sort("stay_id")
    stay = tables.stays["stay_id"][3]
    is_chosen = pl.col("stay_id") == stay
    nothing = select(ward, tmp_path / "one", is_chosen)
    assert digest_stays(nothing).equals(before.filter(is_chosen))
    swapped = pl.when(is_chosen).then(pl.col("value").shift(1).over("stay_id", "variable"))
    changes = {
        "swapped": tables.events.with_columns(value=swapped.fill_null(pl.col("value"))),
        "sign of zero": tables.events.with_columns(
            value=pl.when(is_chosen & is_chosen.is_first_distinct()).then(-0.0).otherwise("value")
        ),
        "zero": tables.events.with_columns(
            value=pl.when(is_chosen & is_chosen.is_first_distinct()).then(0.0).otherwise("value")
        ),
        "dropped": tables.events.filter(~(is_chosen & is_chosen.is_first_distinct())),
    }
    found = [before]
    for i, (name, events) in enumerate(changes.items()):
        changed = tmp_path / str(i)
        changed.mkdir()
        for table in ("stays", "treatments", "episodes"):
            getattr(tables, table).write_parquet(changed / f"{table}.parquet")
        events.write_parquet(changed / "events.parquet")
        digests = digest_stays(Extract(changed, ward.manifest)).sort("stay_id")
        assert digests.filter(~is_chosen).equals(before.filter(~is_chosen)), name
        found.append(digests)
    of_stay = pl.concat(digests.filter(is_chosen) for digests in found)
    assert of_stay[CONTENT].n_unique() == len(found)


def test_digests_are_those_that_were_written_unless_these_are_changed_or_of_another_polars(
    ward: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(ward.path, tmp_path / "copy")
    copy = Extract.open(tmp_path / "copy")
    expected = digest_stays(ward)
    scanned = []
    monkeypatch.setattr(
        stay_digests, "_add_up", lambda hashes: scanned.append(1) or expected.lazy()
    )
    assert digest_stays(copy).equals(expected)
    assert not scanned
    file = copy.path / "stay_digests.parquet"
    monkeypatch.setattr(pl, "__version__", "0")
    digest_stays(copy)
    assert len(scanned) == 1
    monkeypatch.undo()
    expected.with_columns(content=pl.lit(1, pl.UInt64)).write_parquet(file)
    assert digest_stays(copy).sort("stay_id").equals(expected.sort("stay_id"))
    file.unlink()
    assert digest_stays(copy).sort("stay_id").equals(expected.sort("stay_id"))
