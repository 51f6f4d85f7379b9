"""Monitoring: what a registered model meets now, held against what it was trained on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.compose import load
from flowsheet.config import FrozenModel, MonitoringConfig, validate_config
from flowsheet.lifecycle.deployment.export_file import export_file
from flowsheet.lifecycle.experiment.extract_batches import check_variables
from flowsheet.lifecycle.experiment.reference_data import collect_current_data, quarantine_file
from flowsheet.lifecycle.experiment.stage import Progress, Stage, run_stage
from flowsheet.monitoring.findings import Findings, compare
from flowsheet.monitoring.profile import VERSION
from flowsheet.monitoring.reference import Reference, mean_risk_profile, sketches
from flowsheet.monitoring.report import Watched, render
from flowsheet.state.hashing import digest, file_digest
from flowsheet.state.json_files import read_json, write_json
from flowsheet.timestamps import local_now_text
from flowsheet.tracking import model_registry
from flowsheet.tracking.model_registry import ModelVersion
from flowsheet.tracking.monitoring_runs import record_monitoring_run


class Flag(FrozenModel):
    """Something that has changed."""

    kind: str
    """``value``, ``presence``, ``given``, ``person``, ``stay``, ``risk`` or ``performance``."""
    of: str
    """A variable, a drug, something known of the patient, or a figure of merit."""
    said: str


class MonitoringResult(FrozenModel):
    """What monitoring found; the stage's folder holds report.html, findings.parquet and findings.json."""

    stage: Stage
    model: str
    version: int
    stays: int
    tests: int
    alpha: float
    """The chance, at most, that anything is flagged although nothing has changed."""
    flags: tuple[Flag, ...]
    """The largest change first."""
    report: str
    run_id: str
    """In MLflow's experiment ``monitoring``."""

    @property
    def quiet(self) -> bool:
        """Whether nothing was flagged."""
        return not self.flags


def load_monitoring_config(name: str) -> MonitoringConfig:
    """The choice of that name in conf/monitoring.

    Raises:
        UsageError: there is none, or it is wrong.
    """
    return validate_config(MonitoringConfig, load("monitoring", name), where=f"monitoring {name}")


def monitor(
    model: str, extract: Path, progress: Progress, config: MonitoringConfig, out: Path | None = None
) -> MonitoringResult:
    """Compare an extract with what the version that ``NAME@ALIAS`` or ``NAME/VERSION`` means was
    trained on.

    The same version, records and configuration are compared once. ``out`` gets a copy of the
    report. A changed model is no error here: ask ``quiet``.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the folder is no whole extract, what it can hold is not what the model was
            trained with, or the model keeps no reference.
        FlowsheetError: the report cannot be written.
    """
    found = model_registry.resolve_reference(model)
    opened = Extract.open(extract, verify=True)
    model_package = model_registry.load_package(found)
    check_variables(opened, model_package)
    reference = Reference.read(model_package.reference, f"{found.name}/{found.version}")
    key = digest(
        [
            VERSION,
            model_package.training_key,
            found.name,
            found.version,
            *_records(opened),
            config.model_dump(mode="json"),
        ]
    )

    def make(folder: Path) -> None:
        lines, risks = collect_current_data(model_package, opened, progress)
        findings = compare(reference, lines, risks, config)
        findings.frame().write_parquet(folder / "findings.parquet")
        about = _about(found, opened)
        write_json(
            folder / "findings.json", {"about": about, "findings": findings.model_dump(mode="json")}
        )
        watched = Watched(
            title=f"{found.name}/{found.version}",
            reference=reference,
            findings=findings,
            config=config,
            about=about,
            made_at=local_now_text(),
            now={
                (each.kind, each.of): each.sketch
                for each in sketches(pl.concat([lines, mean_risk_profile(risks)]))
            },
        )
        (folder / "report.html").write_text(render(watched))

    made = run_stage("monitoring", key, make)
    if out is not None:
        export_file(made.folder / "report.html", out)
    findings = Findings.model_validate(read_json(made.folder / "findings.json")["findings"])
    return MonitoringResult(
        stage=made,
        model=found.name,
        version=found.version,
        stays=findings.stays,
        tests=findings.tests,
        alpha=findings.alpha,
        flags=tuple(Flag(kind=f.kind, of=f.of, said=f.said) for f in findings.flags),
        report=str(out or made.folder / "report.html"),
        run_id=_record(key, found, made, findings),
    )


def _records(extract: Extract) -> list[str]:
    """Fingerprints of what is compared; the quarantine is no part of the extract's own."""
    aside = quarantine_file(extract)
    return [extract.fingerprint, file_digest(aside) if aside else ""]


def _about(found: ModelVersion, extract: Extract) -> dict[str, str | int]:
    return {
        "model": found.name,
        "version": found.version,
        "extract": extract.fingerprint,
        "source": extract.manifest.source.name,
        "compared_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _record(key: str, found: ModelVersion, made: Stage, findings: Findings) -> str:
    flagged = ", ".join(f"{f.kind} of {f.of}" for f in findings.flags)
    metrics: dict[str, float | None] = {
        f"now.{each.name}": each.value for each in findings.performance.figures
    }
    metrics |= {f"gap.{f.kind}.{_metric_name(f.of)}": f.gap for f in findings.findings}
    lines = [f"- {f.said}" for f in findings.flags] or ["Nothing was flagged."]
    return record_monitoring_run(
        key,
        f"{found.name}/{found.version}",
        tags={
            "flowsheet.model": found.name,
            "flowsheet.version": str(found.version),
            "flowsheet.flagged": flagged[:5000],
        },
        metrics=metrics | {"flags": float(len(findings.flags)), "tests": float(findings.tests)},
        folder=made.folder,
        markdown="\n".join(lines),
    )


def _metric_name(of: str) -> str:
    """As MLflow takes it."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in of)
