"""Monitoring a registered model: from an extract to a report, a table, a run and an exit code."""

from __future__ import annotations

import json
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from click.testing import CliRunner

from flowsheet.cli import cli
from flowsheet.cohort.extract import QUARANTINE, Extract, Provenance
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.writer import write_extract
from flowsheet.config import MonitoringConfig, TaskConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.monitoring import (
    MonitoringResult,
    NotJudged,
    _leave_out_open_stays,
    load_monitoring_config,
    monitor,
    monitor_batch,
    plan_batches,
)
from flowsheet.lifecycle.experiment import extract_batches
from flowsheet.lifecycle.experiment.extract_batches import load_stays
from flowsheet.monitoring.reference import Reference
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.json_files import read_json
from flowsheet.tracking.store import connect

CONFIG = MonitoringConfig(name="standard")
METRICS = ("auroc", "calibration_slope", "calibration_intercept", "observed_over_expected")


def ignore_progress(line: str) -> None:
    pass


def compare(in_service, folder: Path, out: Path | None = None) -> MonitoringResult:
    reference = f"{in_service.name}/{in_service.version}"
    return monitor(reference, folder, ignore_progress, CONFIG, out)


def change_events(in_service, folder: Path, change) -> Extract:
    """Write the extract of new patients again, with changed events."""
    extract = Extract.open(in_service.new_extract)
    tables = extract.tables()
    provenance = Provenance(
        **{name: getattr(extract.manifest, name) for name in Provenance.model_fields}
    )
    changed = Tables(tables.stays, change(tables.events), tables.treatments, tables.episodes)
    return write_extract(changed, folder, provenance)


def flagged_properties(result: MonitoringResult) -> set[tuple[str, str]]:
    return {(flag.kind, flag.name) for flag in result.flags}


@pytest.fixture
def reference_file(in_service) -> Path:
    return in_service.trained.folder / "model_package" / "reference" / "reference.json"


@pytest.fixture
def reference(reference_file) -> Reference:
    return Reference.parse(read_json(reference_file), "in_service/1")


def test_new_patients_of_the_same_ward_are_not_flagged(in_service, tmp_path):
    result = compare(in_service, in_service.new_extract, tmp_path / "report.html")
    assert not result.has_flags, result.flags
    assert (result.stays, result.alpha) == (1000, 0.01)
    assert result.tests > 30
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No drift" in html
    assert "Calibration, reference and current" in html


def test_a_shift_is_flagged(in_service, tmp_path):
    shift = pl.when(pl.col("variable") == "hr").then(12).otherwise(0)
    extract = change_events(
        in_service,
        tmp_path / "shifted",
        lambda events: events.with_columns(value=pl.col("value") + shift),
    )
    flagged = flagged_properties(compare(in_service, extract.path))
    consequences = {("risk", "mean risk"), *(("performance", name) for name in METRICS)}
    assert ("measured_value", "hr") in flagged
    assert flagged <= {("measured_value", "hr")} | consequences


def test_doubled_missingness_is_flagged(in_service, reference, tmp_path):
    """Of a variable that is measured often, so many values are removed that missingness doubles."""
    rates = {
        distribution.name: distribution.sketch.mean
        for distribution in reference.distributions
        if distribution.kind == "measurement_rate"
    }
    variable = max(rates, key=lambda name: rates[name] if rates[name] < 0.95 else 0)
    share_to_keep = 1 - (1 - rates[variable]) / rates[variable]
    random_share = pl.struct("stay_id", "time").hash(seed=1) / 2**64
    is_kept = (pl.col("variable") != variable) | (random_share < share_to_keep)
    extract = change_events(in_service, tmp_path / "sparse", lambda events: events.filter(is_kept))
    flagged = flagged_properties(compare(in_service, extract.path))
    assert ("measurement_rate", variable) in flagged


def test_fahrenheit_is_identified_in_the_quarantine(in_service, tmp_path):
    """Values that ingestion quarantined as implausible are compared as well."""
    is_temperature = pl.col("variable") == "temp"
    extract = change_events(
        in_service, tmp_path / "fahrenheit", lambda events: events.filter(~is_temperature)
    )
    temperatures = Extract.open(in_service.new_extract).tables().events.filter(is_temperature)
    fahrenheit = pl.col("value") * 1.8 + 32
    row = pl.struct("stay_id", "time", "known_at", "variable", value=fahrenheit)
    quarantine = temperatures.select(
        table=pl.lit("events"),
        stay_id="stay_id",
        key=pl.lit("?"),
        column=pl.lit("value"),
        rule=pl.lit("plausible_range"),
        value=pl.col("value").cast(pl.String),
        row=row.struct.json_encode(),
    )
    quarantine.select(list(QUARANTINE)).write_parquet(extract.path / "quarantine.parquet")
    result = compare(in_service, extract.path)
    assert {("measured_value", "temp"), ("measurement_rate", "temp")} <= flagged_properties(result)
    summary = next(
        flag.summary
        for flag in result.flags
        if (flag.kind, flag.name) == ("measured_value", "temp")
    )
    assert "100% of the stays seem to be in degF" in summary


def test_a_comparison_is_made_and_recorded_once(in_service):
    first = compare(in_service, in_service.new_extract)
    second = compare(in_service, in_service.new_extract)
    assert second.stage.reused
    assert first.run_id == second.run_id
    run = connect().get_run(first.run_id)
    assert run.data.tags["flowsheet.flagged"] == ""
    assert run.data.metrics["flags"] == 0
    assert run.data.metrics["current.auroc"] > 0.5
    assert "ks_statistic.measured_value.hr" in run.data.metrics
    assert "change.auroc" in run.data.metrics
    artifacts = {artifact.path for artifact in connect().list_artifacts(first.run_id)}
    assert {"report.html", "findings.parquet", "findings.json"} <= artifacts


def test_batches_of_workers_give_the_same_findings(in_service, tmp_path, monkeypatch):
    monkeypatch.setattr(extract_batches, "STAYS_PER_BATCH", 400)
    copy = change_events(in_service, tmp_path / "copy", lambda events: events.head(8_000))
    reference = f"{in_service.name}/{in_service.version}"
    plan = plan_batches(reference, copy.path, CONFIG)
    batches = extract_batches.list_batches(Extract.open(copy.path))
    assert len(plan.numbers) == len(batches) >= 3
    by_one_process = compare(in_service, copy.path)
    assert plan_batches(reference, copy.path, CONFIG).numbers == []
    findings = pl.read_parquet(by_one_process.stage.folder / "findings.parquet")
    shutil.rmtree(by_one_process.stage.folder)
    for batch in batches[1:]:
        monitor_batch(reference, copy.path, batch)
    assert plan_batches(reference, copy.path, CONFIG).numbers == [1]
    divided = compare(in_service, copy.path)
    assert not divided.stage.reused
    assert pl.read_parquet(divided.stage.folder / "findings.parquet").equals(findings)


def test_report_and_findings_are_self_contained_and_anonymous(in_service):
    result = compare(in_service, in_service.new_extract)
    page = Path(result.report).read_text(encoding="utf-8")
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", text)
    assert "<script src" not in page
    findings = pl.read_parquet(result.stage.folder / "findings.parquet")
    assert not {"stay_id", "subject_id"} & set(findings.columns)
    assert set(findings["kind"]) == {
        "measured_value",
        "measurement_rate",
        "treatment_exposure",
        "demographics",
        "length_of_stay",
        "risk",
        "performance",
    }


def test_the_reference_is_anonymous(reference_file, reference):
    assert not re.search(r"stay_id|subject_id", reference_file.read_text(encoding="utf-8"))
    assert reference.evaluated_on == "test"
    assert reference.performance["auroc"].value > 0.55
    sketches = [distribution.sketch for distribution in reference.distributions]
    assert max(len(sketch.quantiles) for sketch in sketches) <= 256
    assert all(len(sketch.quantiles) * 5 <= sketch.n for sketch in sketches)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no training reference"),
        ({"version": 1}, "has version 1; this release needs version"),
    ],
)
def test_a_model_without_a_current_reference_must_be_trained_again(content, message):
    with pytest.raises(CheckFailed, match=message) as failed:
        Reference.parse(content, "old/1")
    assert "train the model again" in str(failed.value)


def test_the_command_exits_with_1_if_something_has_changed(in_service, tmp_path):
    model = f"{in_service.name}/{in_service.version}"
    report = str(tmp_path / "report.html")
    unchanged = CliRunner().invoke(
        cli, ["monitor", model, str(in_service.new_extract), "--out", report]
    )
    assert unchanged.exit_code == 0, unchanged.output
    assert "0 of" in unchanged.output
    assert "Observed / expected events" in unchanged.output
    factor = pl.when(pl.col("variable") == "glu").then(1 / 18.016).otherwise(1)
    extract = change_events(
        in_service,
        tmp_path / "mmol",
        lambda events: events.with_columns(value=pl.col("value") * factor),
    )
    changed = CliRunner().invoke(cli, ["monitor", model, str(extract.path)])
    assert isinstance(changed.exception, CheckFailed)
    assert changed.exception.exit_code == 1
    assert changed.exception.what.startswith("changed: glu")
    assert "glu (glucose, mg/dL): 96% of the stays seem to be in mmol/L" in changed.output


def test_the_findings_are_a_file_for_prometheus(in_service, tmp_path):
    model = f"{in_service.name}/{in_service.version}"
    file = tmp_path / "ward.prom"
    arguments = ["monitor", model, str(in_service.new_extract), "--metrics"]
    done = CliRunner().invoke(cli, [*arguments, str(file), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    text = file.read_text(encoding="utf-8")
    labels = f'model="{in_service.name}",version="{in_service.version}"'
    assert f"flowsheet_monitoring_alert_share{{{labels}}} {result['alert_share']}" in text
    assert f"flowsheet_monitoring_stays{{{labels}}} 1000.0" in text
    assert "flowsheet_monitoring_performance{" in text
    assert file.stat().st_mode & 0o777 == 0o644
    package = ModelPackage.load(in_service.trained.folder / "model_package")
    risks = package.predict(Extract.open(in_service.new_extract).tables())["risk"]
    assert result["alert_share"] == pytest.approx((risks >= package.threshold).mean())
    for wrong in (tmp_path / "ward.txt", tmp_path / "nowhere" / "ward.prom"):
        refused = CliRunner().invoke(cli, [*arguments, str(wrong)])
        assert isinstance(refused.exception, UsageError)
    assert [path.name for path in tmp_path.iterdir()] == ["ward.prom"]


def test_silence_about_too_few_patients_is_no_all_clear(in_service, tmp_path):
    extract = Extract.open(in_service.new_extract)
    stays = extract.tables().stays["stay_id"].head(60).to_list()
    tables = load_stays(extract, stays)
    provenance = Provenance(
        **{name: getattr(extract.manifest, name) for name in Provenance.model_fields}
    )
    few = write_extract(tables, tmp_path / "few", provenance)
    model = f"{in_service.name}/{in_service.version}"
    report = tmp_path / "report.html"
    answer = CliRunner().invoke(cli, ["monitor", model, str(few.path), "--out", str(report)])
    assert isinstance(answer.exception, NotJudged)
    assert answer.exception.exit_code == 3
    assert answer.exception.what.startswith("Not judged:")
    assert "Not judged:" in answer.output
    page = report.read_text(encoding="utf-8")
    assert page.index("Not judged:") < page.index("<dt>Flagged")
    assert "No drift" not in page


def test_an_unknown_configuration_is_a_usage_error():
    with pytest.raises(UsageError, match="'standrad'"):
        load_monitoring_config("standrad")


def test_the_standard_configuration_has_the_documented_defaults():
    assert load_monitoring_config("standard") == CONFIG


def test_a_changed_quarantine_is_compared_again(in_service, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(in_service.new_extract, folder)
    before = compare(in_service, folder)
    pl.DataFrame(schema=QUARANTINE).write_parquet(folder / "quarantine.parquet")
    after = compare(in_service, folder)
    assert before.stage.key != after.stage.key
    findings = json.loads((after.stage.folder / "findings.json").read_text(encoding="utf-8"))
    assert findings["provenance"]["extract"]


def test_patients_who_are_present_do_not_count_as_free_of_the_event():
    """A mortality task, say, with `censor: keep`: half of the patients have not left yet."""
    end = datetime(2031, 5, 1)
    stays = pl.DataFrame(
        {
            "stay_id": [1, 2, 3],
            "admitted_at": [end - timedelta(days=9)] * 3,
            "discharged_at": [end - timedelta(days=1), end, end],
            "died_at": [None, None, end],
        }
    )
    extract = SimpleNamespace(scan=lambda _: stays.lazy())
    risks = pl.DataFrame({"stay_id": [1, 1, 2, 2, 3], "scored": [True, False, True, True, True]})
    lines: list[str] = []
    task = TaskConfig(name="death_next_day", response="death")
    kept = _leave_out_open_stays(risks, extract, task, lines.append)
    assert kept["scored"].to_list() == [True, False, False, False, True]
    assert lines == ["stays that were open when the record ended, and do not count: 1"]


@pytest.mark.parametrize("is_recorded", [True, False])
def test_patients_who_may_still_die_in_the_hospital_do_not_count(is_recorded: bool):
    """They have left the unit, and the task asks about the time until they leave the hospital."""
    end = datetime(2031, 5, 1)
    stays = pl.DataFrame(
        {
            "stay_id": [1, 2, 3],
            "admitted_at": [end - timedelta(days=9)] * 3,
            "discharged_at": [end - timedelta(days=1)] * 2 + [end],
            "died_at": [None, None, end],
            "hospital_death": [False, None, True] if is_recorded else [None] * 3,
        },
        schema_overrides={"hospital_death": pl.Boolean},
    )
    extract = SimpleNamespace(scan=lambda _: stays.lazy())
    risks = pl.DataFrame({"stay_id": [1, 2, 3], "scored": [True, True, True]})
    task = TaskConfig(name="hospital_death", response="death", horizon=None, at_hours=24.0)
    kept = _leave_out_open_stays(risks, extract, task, print)
    assert kept["scored"].to_list() == [True, not is_recorded, True]
