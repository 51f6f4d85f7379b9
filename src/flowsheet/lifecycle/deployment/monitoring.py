"""Compare new records with those that a registered model was trained on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.compose import load
from flowsheet.config import (
    FrozenModel,
    ModelConfig,
    MonitoringConfig,
    TaskConfig,
    validate_config,
)
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.lifecycle.deployment.batch_plan import (
    BatchPlan,
    open_model_and_extract,
    plan_missing_batches,
)
from flowsheet.lifecycle.deployment.export_file import export_file
from flowsheet.lifecycle.deployment.record_end import find_open_stays
from flowsheet.lifecycle.experiment.extract_batches import StayRange
from flowsheet.lifecycle.experiment.reference_data import (
    collect_current_data,
    find_batch,
    profile_batch,
    quarantine_file,
)
from flowsheet.lifecycle.experiment.stage import Stage, is_complete, run_stage
from flowsheet.models.base import list_titles
from flowsheet.monitoring.exposition import format_metrics
from flowsheet.monitoring.findings import Finding, Findings, find_changes
from flowsheet.monitoring.profile import PROFILE_VERSION, PropertyKind
from flowsheet.monitoring.reference import Reference, mean_risk_profile, sketch_profile
from flowsheet.monitoring.report import (
    MonitoringReport,
    describe_calibration,
    render_report,
    summarise,
)
from flowsheet.prediction.model_package import ModelPackage
from flowsheet.state.hashing import digest, file_digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.locations import Location
from flowsheet.state.publish import publish_file
from flowsheet.timestamps import local_now_text
from flowsheet.tracking import model_registry, registered_packages
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.monitoring_runs import record_monitoring_run
from flowsheet.typing import Progress

_VERSION = 5
"""Increase it when the same records give other findings."""
_MONITORING = "monitoring"
"""Kind of the stages."""


class Flag(FrozenModel):
    """A property that has changed."""

    kind: PropertyKind
    name: str
    """A variable, a drug, an attribute of the patient, or a metric."""
    summary: str
    """The change as a sentence."""


class NotJudged(CheckFailed):
    """Nothing is flagged, but most properties could not be compared (exit code 3)."""

    exit_code: ClassVar[int] = 3


class MonitoringResult(FrozenModel):
    """Result of a comparison; the stage has report.html, findings.parquet and findings.json."""

    stage: Stage
    model: str
    version: int
    stays: int
    tests: int
    """Number of properties that were tested."""
    alpha: float
    """Upper bound of the probability that anything is flagged although nothing has changed."""
    flags: tuple[Flag, ...]
    """What concerns the model first, then by what it does to the predictions."""
    judged: bool
    """Whether enough properties could be compared for silence to mean anything."""
    headline: str
    """The findings in a sentence or two."""
    calibration: str
    """Calibration in the large, in a sentence."""
    alert_share: float | None
    """Share of the predictions that raise an alert."""
    report: str
    run_id: str
    """In MLflow's experiment ``monitoring``."""

    @property
    def has_flags(self) -> bool:
        """Whether anything has changed."""
        return bool(self.flags)


def load_monitoring_config(name: str) -> MonitoringConfig:
    """The configuration of that name in conf/monitoring.

    Raises:
        UsageError: there is none, or it is invalid.
    """
    return validate_config(MonitoringConfig, load("monitoring", name), where=f"monitoring {name}")


def monitor(
    model: str,
    extract: Location,
    progress: Progress,
    config: MonitoringConfig,
    out: Location | None = None,
    *,
    metrics: Path | None = None,
) -> MonitoringResult:
    """Compare a cohort extract with the training reference of a registered model.

    The same version, records and configuration are compared once. A changed model is not an
    error: see ``MonitoringResult.has_flags``.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.
        progress: receives lines about the progress.
        config: significance level and minimum changes.
        out: file for a copy of the report.
        metrics: file ``*.prom`` for the findings as Prometheus metrics.

    Raises:
        UsageError: there is no such version, or the file for metrics has another name.
        CheckFailed: the extract is incomplete or lacks most of the model's variables, or the model
            has no reference.
        FlowsheetError: the copy of the report, or the metrics, cannot be written.
    """
    if metrics is not None:
        _check_metrics_file(metrics)
    version, model_package, current = open_model_and_extract(model, extract)
    reference = Reference.parse(model_package.reference, version.reference)

    def make(folder: Path) -> None:
        profile, risks = collect_current_data(model_package, current, progress)
        risks = _leave_out_open_stays(risks, current, model_package.task, progress)
        findings = find_changes(reference, profile, risks, config).model_copy(
            update={"alert_share": _share_of_alerts(risks, model_package.threshold)}
        )
        provenance = _describe_provenance(version, current)
        distributions = sketch_profile(pl.concat([profile, mean_risk_profile(risks)]))
        report = MonitoringReport(
            title=_describe_model(version, model_package),
            reference=reference,
            findings=findings,
            config=config,
            provenance=provenance,
            created_at=local_now_text(),
            current={(d.kind, d.name): d.sketch for d in distributions},
        )
        findings.frame().write_parquet(folder / "findings.parquet")
        write_json(
            folder / "findings.json",
            {"provenance": provenance, "findings": findings.model_dump(mode="json")},
        )
        (folder / "report.html").write_text(render_report(report), encoding="utf-8")

    key = _stage_key(version, model_package, current, config)
    stage = run_stage(_MONITORING, key, make)
    if out is not None:
        export_file(stage.folder / "report.html", out)
    findings = Findings.model_validate(read_json(stage.folder / "findings.json")["findings"])
    if metrics is not None:
        now = datetime.now(UTC)
        content = format_metrics(
            version.name, version.version, findings, reference.performance, now
        )
        _write_metrics(metrics, content)
    return MonitoringResult(
        stage=stage,
        model=version.name,
        version=version.version,
        stays=findings.stays,
        tests=findings.tests,
        alpha=findings.alpha,
        judged=findings.is_judged,
        headline=summarise(findings),
        calibration=describe_calibration(reference.performance, findings.performance),
        alert_share=findings.alert_share,
        flags=tuple(Flag(kind=f.kind, name=f.name, summary=f.summary) for f in findings.flags),
        report=str(out or stage.folder / "report.html"),
        run_id=_record_run(version, stage, findings),
    )


def plan_batches(model: str, extract: Location, config: MonitoringConfig) -> BatchPlan:
    """The batches that :func:`monitor` would profile: those that the store does not have.

    Args:
        model: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.
        config: significance level and minimum changes.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the extract is incomplete or lacks most of the model's variables.
    """
    opened = open_model_and_extract(model, extract)
    is_compared = is_complete(_MONITORING, _stage_key(*opened, config))

    def is_built(batch: StayRange) -> bool:
        return is_compared or find_batch(opened.model_package, opened.extract, batch) is not None

    return plan_missing_batches(opened, extract, is_built)


def monitor_batch(model: str, extract: Location, batch: StayRange) -> Stage:
    """Profile one batch of :func:`plan_batches`, which :func:`monitor` then finds.

    Args:
        model: ``NAME/VERSION``.
        extract: folder of the cohort extract.
        batch: its stays.
    """
    version = model_registry.resolve_reference(model)
    model_package = registered_packages.load_package_once(version)
    return profile_batch(model_package, Extract.open(extract), batch)


def _stage_key(
    version: ModelVersion, model_package: ModelPackage, current: Extract, config: MonitoringConfig
) -> str:
    return digest(
        [
            _VERSION,
            PROFILE_VERSION,
            model_package.digest,
            version.name,
            version.version,
            *_fingerprints(current),
            config.model_dump(mode="json"),
        ]
    )


def _leave_out_open_stays(
    risks: pl.DataFrame, extract: Extract, task: TaskConfig, progress: Progress
) -> pl.DataFrame:
    """The risks, of which those of patients who were present at the end have no outcome yet.

    Args:
        risks: columns ``RISK_SCHEMA``.
        extract: the current records.
        task: without a horizon, patients who are still in the hospital have no outcome either.
        progress: receives the number of these stays.
    """
    is_open = pl.col("stay_id").is_in(find_open_stays(extract, task))
    left_out = risks.filter(is_open & pl.col("scored"))["stay_id"].n_unique()
    if left_out:
        progress(f"stays that were open when the record ended, and do not count: {left_out:,}")
    return risks.with_columns(scored=pl.col("scored") & ~is_open)


def _describe_model(version: ModelVersion, package: ModelPackage) -> str:
    kind = package.kind
    title = list_titles({kind: ModelConfig(kind=kind)})[kind]
    return version.reference if title == kind else f"{title} ({version.reference})"


def _share_of_alerts(risks: pl.DataFrame, threshold: float | None) -> float | None:
    if threshold is None or risks.is_empty():
        return None
    return float(risks.select((pl.col("risk") >= threshold).mean()).item())


def _check_metrics_file(file: Path) -> None:
    if file.suffix != ".prom":
        raise UsageError(
            "node_exporter reads only files whose names end with .prom",
            where=str(file),
            todo=f"--metrics {file.with_suffix('.prom')}",
        )
    if not file.parent.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(file.parent),
            todo="choose the folder of node_exporter's --collector.textfile.directory",
        )


def _write_metrics(file: Path, content: bytes) -> None:
    """Write the file atomically; unlike a record, everybody may read it."""
    with publish_file(file) as part:
        part.write_bytes(content)
        part.chmod(0o644)


def _fingerprints(extract: Extract) -> list[str]:
    """Of the extract and of its quarantine, which the extract's fingerprint does not cover."""
    quarantine = quarantine_file(extract)
    return [extract.fingerprint, file_digest(quarantine) if quarantine else ""]


def _describe_provenance(version: ModelVersion, extract: Extract) -> dict[str, str | int]:
    return {
        "model": version.name,
        "version": version.version,
        "extract": extract.fingerprint,
        "source": extract.manifest.source.name,
        "compared_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _record_run(version: ModelVersion, stage: Stage, findings: Findings) -> str:
    """Record a comparison in MLflow; returns the id of its run."""
    flags = findings.flags
    flagged = ", ".join(f"{flag.kind} of {flag.name}" for flag in flags)
    summary = [f"- {flag.summary}" for flag in flags] or [summarise(findings)]
    return record_monitoring_run(
        stage.key,
        version.reference,
        tags={
            "flowsheet.model": version.name,
            "flowsheet.version": str(version.version),
            "flowsheet.flagged": flagged[:5000],
            "flowsheet.judged": str(findings.is_judged).lower(),
        },
        metrics=_collect_metrics(findings),
        folder=stage.folder,
        markdown="\n".join(summary),
    )


def _collect_metrics(findings: Findings) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {
        "flags": float(len(findings.flags)),
        "tests": float(findings.tests),
    }
    metrics |= {f"current.{metric.name}": metric.value for metric in findings.performance.metrics}
    metrics |= {_metric_name(f): _metric_value(f) for f in findings.findings}
    return metrics


def _metric_name(finding: Finding) -> str:
    """``change.NAME`` or ``ks_statistic.KIND.NAME``, in characters that MLflow allows."""
    name = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in finding.name)
    if finding.kind == "performance":
        return f"change.{name}"
    return f"ks_statistic.{finding.kind}.{name}"


def _metric_value(finding: Finding) -> float | None:
    return finding.change if finding.kind == "performance" else finding.ks_statistic
