"""Artifacts of a run on an MLflow server are written again, or deleted there."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from flowsheet.lifecycle.erasure import places
from flowsheet.lifecycle.erasure.tables import Ids
from flowsheet.state.hashing import file_digest
from flowsheet.tracking.erasure import list_recorded_runs
from flowsheet.tracking.store import connect
from tests.e2e.servers import mlflow_server
from tests.lifecycle.erasure.search import find

pytestmark = [pytest.mark.slow, pytest.mark.server]
SUBJECT, STAY = 7_310_000_000, 8_420_000_000
IDS = Ids(frozenset({SUBJECT}), frozenset({STAY}))


def write_artifacts(folder: Path) -> Path:
    """Predictions of two subjects, and a memory study and a report that show the first."""
    for name in ("evidence", "memory", "report"):
        (folder / name).mkdir(parents=True)
    table = folder / "evidence" / "predictions.parquet"
    pl.DataFrame({"subject_id": [SUBJECT, 2], "stay_id": [STAY, 4]}).write_parquet(table)
    stage = {"key": "a", "seconds": 1, "sha256": {table.name: file_digest(table)}}
    (folder / "evidence" / "stage.json").write_text(json.dumps(stage), encoding="utf-8")
    about = {"example_stay": {"stay_id": STAY}}
    (folder / "memory" / "about.json").write_text(json.dumps(about), encoding="utf-8")
    pl.DataFrame({"stay_id": [STAY], "state": [0.1]}).write_parquet(
        folder / "memory" / "example.parquet"
    )
    text = f"<p>Stay {STAY}, 5 days long.</p>"
    (folder / "report" / "report.html").write_text(text, encoding="utf-8")
    (folder / "report" / "stage.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_server_s_artifacts_have_no_erased_subject(tmp_path, monkeypatch, flowsheet_home):
    with mlflow_server(tmp_path).running() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        client = connect()
        run_id = client.create_run("0", tags={"flowsheet.level": "experiment"}).info.run_id
        client.log_artifacts(run_id, str(write_artifacts(tmp_path / "logged")))
        stored = tmp_path / "artifacts"
        assert len(find(stored, STAY)) == 4
        (run,) = list_recorded_runs()
        assert run.local_folder is None
        (place,) = places.find_artifacts(run, IDS)
        assert place.rows == 4
        for _ in range(2):  # interrupted, it is repeated
            places.erase_place(place, IDS, {run_id: run})
            assert find(stored, STAY) == find(stored, SUBJECT) == []
        assert places.find_artifacts(run, IDS) == []
        (evidence,) = stored.rglob("evidence")
        kept = sorted(str(f.relative_to(evidence.parent)) for f in evidence.parent.rglob("*.*"))
        expected = ["evidence/predictions.parquet", "evidence/stage.json", "report/stage.json"]
        assert kept == expected
        table = evidence / "predictions.parquet"
        assert pl.read_parquet(table)["subject_id"].to_list() == [2]
        recorded = json.loads((evidence / "stage.json").read_text(encoding="utf-8"))
        assert recorded["sha256"] == {table.name: file_digest(table)}
