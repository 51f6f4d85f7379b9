"""The report of a recorded run as a file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from flowsheet.errors import CheckFailed
from flowsheet.state.home import home
from flowsheet.tracking.run_records import LATEST, load_run_record


def fetch_report(reference: str | None, out: Path | None) -> Path:
    """Copy the report of a run, by default the latest one, to a file.

    Args:
        reference: a run id, ``NAME/VERSION`` or ``NAME@ALIAS``; None: the latest run.
        out: the file; None: one in the state folder.

    Raises:
        UsageError: there is no such run.
        CheckFailed: the run has no report.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        record = load_run_record(reference or LATEST, folder)
        downloaded = record.download_artifacts("report", folder) / "report.html"
        if not downloaded.is_file():
            raise CheckFailed(
                "the run's report was deleted",
                where=f"run {record.run_id}",
                todo="it showed a subject that was erased: run its experiment again for another",
            )
        if out is None:
            reports = home() / "reports"
            reports.mkdir(exist_ok=True)
            out = reports / f"{record.run_id}.html"
        shutil.copyfile(downloaded, out)
    return out
