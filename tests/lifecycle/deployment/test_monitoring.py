"""Monitoring a registered model: from an extract to a report, a table, a run and an exit code."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from flowsheet.cli import cli
from flowsheet.cohort.extract import QUARANTINE, Extract, Provenance
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.writer import write
from flowsheet.config import MonitoringConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.monitoring import (
    MonitoringResult,
    load_monitoring_config,
    monitor,
)
from flowsheet.monitoring.reference import Reference
from flowsheet.state.json_files import read_json
from flowsheet.tracking.store import connect

CONFIG = MonitoringConfig(name="standard")


def quiet(line: str) -> None:
    pass


def watch(in_service, folder: Path, out: Path | None = None) -> MonitoringResult:
    return monitor(f"{in_service.name}/{in_service.version}", folder, quiet, CONFIG, out)


def changed(in_service, folder: Path, change) -> Extract:
    """The new ward with other events."""
    extract = Extract.open(in_service.new_extract)
    tables = extract.tables()
    provenance = Provenance(
        **{name: getattr(extract.manifest, name) for name in Provenance.model_fields}
    )
    events = change(tables.events)
    return write(
        Tables(tables.stays, events, tables.treatments, tables.episodes), folder, provenance
    )


def names(done: MonitoringResult) -> set[tuple[str, str]]:
    return {(flag.kind, flag.of) for flag in done.flags}


@pytest.fixture
def reference(in_service) -> Reference:
    held = in_service.trained.folder / "model_package" / "reference" / "reference.json"
    return Reference.read(read_json(held), "here")


def test_the_same_ward_is_quiet(in_service, tmp_path):
    done = watch(in_service, in_service.new_extract, tmp_path / "report.html")
    assert done.quiet, done.flags
    assert (done.stays, done.alpha) == (1000, 0.01)
    assert done.tests > 30
    assert "Quiet" in (tmp_path / "report.html").read_text()


def test_a_shift_is_flagged(in_service, tmp_path):
    shift = pl.col("value") + pl.when(pl.col("variable") == "hr").then(12).otherwise(0)
    extract = changed(
        in_service, tmp_path / "shifted", lambda events: events.with_columns(value=shift)
    )
    done = watch(in_service, extract.path)
    assert ("value", "hr") in names(done)
    assert (
        not names(done)
        - {("value", "hr"), ("risk", "mean risk")}
        - {("performance", n) for n in PERFORMANCE}
    )


PERFORMANCE = ("auroc", "calibration_slope", "calibration_intercept")


def test_doubled_missingness_is_flagged(in_service, reference, tmp_path):
    """Of a variable that is charted often, so many values are taken away that its gaps double."""
    charted = {e.of: e.sketch.mean for e in reference.entries if e.kind == "presence"}
    of = max(charted, key=lambda name: charted[name] if charted[name] < 0.95 else 0)
    keep = 1 - (1 - charted[of]) / charted[of]
    chance = pl.struct("stay_id", "time").hash(seed=1) / 2**64
    extract = changed(
        in_service,
        tmp_path / "gaps",
        lambda e: e.filter((pl.col("variable") != of) | (chance < keep)),
    )
    assert ("presence", of) in names(watch(in_service, extract.path))


def test_fahrenheit_is_named_in_the_quarantine(in_service, tmp_path):
    """What the contract set aside as implausible is looked at, too."""
    hot = pl.col("variable") == "temp"
    extract = changed(in_service, tmp_path / "hot", lambda events: events.filter(~hot))
    aside = Extract.open(in_service.new_extract).tables().events.filter(hot)
    row = pl.struct(
        "stay_id", "time", "known_at", "variable", value=pl.col("value") * 1.8 + 32
    ).struct.json_encode()
    told = {
        "table": pl.lit("events"),
        "key": pl.lit("?"),
        "column": pl.lit("value"),
        "rule": pl.lit("plausible_range"),
    }
    lines = aside.select(**told, stay_id="stay_id", value=pl.col("value").cast(pl.String), row=row)
    lines.select(list(QUARANTINE)).write_parquet(extract.path / "quarantine.parquet")
    done = watch(in_service, extract.path)
    assert {("value", "temp"), ("presence", "temp")} <= names(done)
    said = next(flag.said for flag in done.flags if (flag.kind, flag.of) == ("value", "temp"))
    assert "looks like degF in 100% of the stays" in said


def test_it_is_done_once_and_recorded_once(in_service):
    one, other = (watch(in_service, in_service.new_extract) for _ in range(2))
    assert other.stage.reused
    assert one.run_id == other.run_id
    run = connect().get_run(one.run_id)
    assert run.data.tags["flowsheet.flagged"] == ""
    assert run.data.metrics["flags"] == 0
    assert run.data.metrics["now.auroc"] > 0.5
    kept = {each.path for each in connect().list_artifacts(one.run_id)}
    assert {"report.html", "findings.parquet", "findings.json"} <= kept


def test_the_page_loads_nothing_and_names_nobody(in_service):
    done = watch(in_service, in_service.new_extract)
    page = Path(done.report).read_text()
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)
    assert "<script" not in page
    findings = pl.read_parquet(done.stage.folder / "findings.parquet")
    assert not {"stay_id", "subject_id"} & set(findings.columns)
    assert set(findings["kind"]) == {
        "value",
        "presence",
        "given",
        "person",
        "stay",
        "risk",
        "performance",
    }


def test_the_reference_names_nobody(in_service, reference):
    text = (
        in_service.trained.folder / "model_package" / "reference" / "reference.json"
    ).read_text()
    assert not re.search(r"stay_id|subject_id", text)
    assert reference.measured_on == "test"
    assert reference.performance["auroc"].value > 0.55
    assert max(len(entry.sketch.quantiles) for entry in reference.entries) <= 256
    assert all(len(e.sketch.quantiles) * 5 <= e.sketch.n for e in reference.entries)


def test_a_model_without_a_reference_says_so(in_service):
    with pytest.raises(CheckFailed, match="keeps no reference") as failed:
        Reference.read(None, "old/1")
    assert "train the model again" in str(failed.value)


def test_the_command_exits_by_what_it_found(in_service, tmp_path):
    model = f"{in_service.name}/{in_service.version}"
    fine = CliRunner().invoke(
        cli, ["monitor", model, str(in_service.new_extract), "--out", str(tmp_path / "r.html")]
    )
    assert fine.exit_code == 0, fine.output
    assert "0 of" in fine.output
    scale = pl.col("value") * pl.when(pl.col("variable") == "glu").then(1 / 18.016).otherwise(1)
    extract = changed(
        in_service, tmp_path / "mmol", lambda events: events.with_columns(value=scale)
    )
    flagged = CliRunner().invoke(cli, ["monitor", model, str(extract.path)])
    assert isinstance(flagged.exception, CheckFailed)
    assert flagged.exception.exit_code == 1
    assert flagged.exception.what.startswith("changed: glu")
    assert "glu (glucose, mg/dL) looks like mmol/L in 100% of the stays" in flagged.output


def test_an_unknown_choice_names_the_nearest():
    with pytest.raises(UsageError, match="no monitoring called 'standrad'"):
        load_monitoring_config("standrad")


def test_the_declared_choice_is_the_documented_default():
    assert load_monitoring_config("standard") == CONFIG


def test_a_changed_quarantine_is_compared_anew(in_service, tmp_path):
    folder = tmp_path / "same"
    shutil.copytree(in_service.new_extract, folder)
    before = watch(in_service, folder)
    pl.DataFrame(schema=QUARANTINE).write_parquet(folder / "quarantine.parquet")
    after = watch(in_service, folder)
    assert before.stage.key != after.stage.key
    assert json.loads((after.stage.folder / "findings.json").read_text())["about"]["extract"]
