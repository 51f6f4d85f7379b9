"""One self-contained HTML page that a person can read, print and pass on."""

from flowsheet.evaluation.report.data import (
    CohortReport,
    ModelReport,
    PatientReport,
    ReportData,
    Section,
)
from flowsheet.evaluation.report.page import render

__all__ = ["CohortReport", "ModelReport", "PatientReport", "ReportData", "Section", "render"]
