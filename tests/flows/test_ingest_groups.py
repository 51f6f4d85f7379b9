"""Groups of stays go to workers where that pays; the extract is that of one process."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows import ingest as ingest_flow
from flows import ingest_groups, pieces
from flowsheet.cli import cli
from flowsheet.cohort.divided import ParsedGroups
from flowsheet.config import ComputeConfig
from flowsheet.errors import UsageError
from flowsheet.lifecycle.experiment import ingest_groups as worth
from flowsheet.state.home import home
from tests.cohort.mimic3_folder import raw_tables, write_tables
from tests.cohort.test_divided import make_cohort

GB = 10**9
TWO = ComputeConfig(name="two", workers=2)


class Groups(ParsedGroups):
    """Groups that are never built."""

    folder = Path("spill")
    n_groups = worth.MIN_GROUPS
    saved = False

    def build_batch(self, group: int) -> Any:
        raise NotImplementedError

    def last_stay_before(self, group: int) -> int:
        return 90_001

    def estimate_memory(self) -> int:
        return GB

    def save(self) -> None:
        self.saved = True


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of progress."""
    lines: list[str] = []
    monkeypatch.setattr(ingest_groups, "progress_logger", lambda _: lines.append)
    return lines


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, lines: list[str]):
    """Offer groups to workers; returns what is submitted to them."""

    def call(compute: ComputeConfig, groups: Groups | None = None) -> list[pieces.Pieces]:
        submitted: list[pieces.Pieces] = []
        monkeypatch.setattr(ingest_groups, "build_pieces", lambda work, _: submitted.append(work))
        groups = groups or Groups()
        builder = ingest_groups.make_group_builder(make_cohort(Path("raw")), compute)
        if builder:
            builder(groups)
        assert groups.saved == bool(submitted)
        return submitted

    return call


@pytest.mark.parametrize("runner", ["process", "dask", "ray"])
def test_many_groups_are_built_by_workers_which_get_numbers_and_no_ids(offer, runner):
    (work,) = offer(TWO.model_copy(update={"runner": runner}))
    assert work.memory == GB
    assert [piece["number"] for piece in work.parameters] == list(range(1, worth.MIN_GROUPS + 1))
    assert "90001" not in repr(work.parameters)
    assert work.task.task_run_name.format(**work.parameters[0]) == "ingest-1"


@pytest.mark.parametrize("changes", [{"workers": 1}, {"pool": "cpu"}])
def test_one_process_and_pools_build_none(offer, changes):
    assert offer(TWO.model_copy(update=changes)) == []


def test_few_groups_are_built_by_the_ingest(offer, monkeypatch, lines):
    monkeypatch.setattr(Groups, "n_groups", worth.MIN_GROUPS - 1)
    assert offer(TWO) == []
    assert lines == []


def test_groups_that_do_not_fit_twice_beside_the_ingest_are_built_by_it(offer, monkeypatch, lines):
    monkeypatch.setattr(ingest_groups, "resident_memory", lambda: 2 * GB)
    monkeypatch.setattr(ingest_groups, "usable_memory", lambda: 6 * GB)
    assert len(offer(TWO)) == 1
    assert lines == []
    monkeypatch.setattr(ingest_groups, "usable_memory", lambda: 4 * GB)
    assert offer(TWO) == []
    assert "one process builds all groups of stays: two more of about 1.0 GB each" in lines[0]
    assert len(offer(TWO.model_copy(update={"runner": "dask"}))) == 1


def test_machines_that_share_an_object_store_alone_do_not_see_the_spill(offer, monkeypatch, lines):
    monkeypatch.setattr(ingest_groups, "shared_folder", lambda: "s3://hospital/store")
    assert offer(TWO.model_copy(update={"runner": "dask"})) == []
    (line,) = lines
    assert "one process builds all groups of stays" in line
    assert "a shared FLOWSHEET_HOME, not from an object store" in line
    assert len(offer(TWO)) == 1


def test_a_worker_with_another_state_folder_refuses(tmp_path, flowsheet_home):
    cohort = make_cohort(tmp_path)
    for folder in (tmp_path / "elsewhere", home() / "spill" / "gone"):
        with pytest.raises(UsageError, match="does not see what the ingest has read"):
            ingest_groups.build_group.fn(cohort, folder, 1)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "raw", raw_tables())


@pytest.mark.parametrize(("workers", "size", "calls"), [("2", 12, 1), ("1", 12, 0), ("2", 11, 0)])
def test_the_command_starts_workers_where_there_are_enough_stays(
    raw, tmp_path, monkeypatch, flowsheet_home, workers, size, calls
):
    called: list[tuple[Any, ...]] = []

    def run_in_workers(entrypoint: str, *arguments: Any) -> Path:
        called.append((entrypoint, *arguments[1:]))
        return arguments[1]

    monkeypatch.setattr(import_module("flowsheet.cli.run"), "run_in_workers", run_in_workers)
    monkeypatch.setattr(worth, "MIN_GROUPS", 4 if size == 12 else 5)
    out = tmp_path / "out"
    options = ["cohort.options.stays_per_batch=1", "cohort.allow_empty=true"]
    arguments = ["ingest", "mimic3", str(raw), *options, "--out", str(out), "--workers", workers]
    result = CliRunner().invoke(cli, arguments)
    entrypoint = "flows.ingest_groups:ingest_in_workers"
    assert called == [(entrypoint, out, 2, "process")] * calls
    assert out.exists() == (not calls), result.output


def test_a_runner_without_workers_is_refused(raw):
    result = CliRunner().invoke(cli, ["ingest", "mimic3", str(raw), "--runner", "dask"])
    assert result.exit_code == 2
    assert "--runner dask takes --workers 2 or more" in result.output
    with pytest.raises(UsageError, match="runner=ray with one worker"):
        ingest_flow.find_or_ingest(None, "mimic3", [], 1, "ray")


def test_flows_ingest_in_workers_only_what_is_not_an_extract(monkeypatch, tmp_path):
    calls: list[tuple[Any, ...]] = []

    def ingest_in_workers(config: Any, *choices: Any) -> Path:
        calls.append((config.name, config.path, *choices))
        return tmp_path

    monkeypatch.setattr(ingest_groups, "ingest_in_workers", ingest_in_workers)
    monkeypatch.setattr(ingest_flow, "find_or_ingest_extract", lambda *found: found)
    path = f"cohort.path={tmp_path}"
    assert ingest_flow.find_or_ingest(None, "mimic3", [path], 4, "dask") == str(tmp_path)
    assert calls == [("mimic3", str(tmp_path), None, 4, "dask")]
    assert ingest_flow.find_or_ingest("x", None, [], 4, "dask") == ("x", None, [])
    assert ingest_flow.find_or_ingest(None, "mimic3", [], 1, "process") == (None, "mimic3", [])
