"""Extracts in an object store: complete and verified, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsheet.cli import main
from flowsheet.cohort.extract import Extract, check_extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.remote_extracts import check_free, upload_extract
from flowsheet.config import CohortConfig
from flowsheet.errors import CheckFailed, FlowsheetError, Unreachable, UsageError
from tests.s3_server import S3Server, folder


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small extract with a quarantine."""
    path = tmp_path_factory.mktemp("ward") / "ward"
    options = {"stays": 12, "seed": 3}
    config = CohortConfig(name="ward", source="simulated", options=options)
    ingest(make_source(config), config, path, lambda line: None)
    return path


def test_an_extract_is_read_as_it_was_written(s3: S3Server, ward: Path, tmp_path: Path):
    upload_extract(ward, folder("ward"))
    remote = Extract.open(folder("ward"), verify=True)
    assert remote.manifest == Extract.open(ward).manifest
    assert remote.tables().events.equals(Extract.open(ward).tables().events)
    assert (remote.path / "oracle/oracle.parquet").is_file()
    assert check_extract(folder("ward")).is_empty()
    assert [entry.name for entry in folder("ward").list() if entry.name[0] == "."] == []

    s3.requests.clear()
    Extract.open(folder("ward"), verify=True)
    assert s3.requests == ["GET /hospital/ward/manifest.json"]  # the copy is used again


def test_a_changed_object_is_not_loaded(s3: S3Server, ward: Path):
    upload_extract(ward, folder("ward"))
    folder("ward").write("events.parquet", (ward / "stays.parquet").read_bytes())
    with pytest.raises(CheckFailed, match="its sha256 differs"):
        Extract.open(folder("ward"))


@pytest.mark.parametrize("table", ["stays", "episodes"])
def test_an_interrupted_upload_is_no_extract(s3: S3Server, ward: Path, table: str):
    upload_extract(ward, folder("ward"))
    s3.stop_before = f"PUT /hospital/ward/{table}.parquet"
    with pytest.raises(Unreachable, match="does not answer"):
        upload_extract(ward, folder("ward"))
    s3.stop_before = None
    with pytest.raises(CheckFailed, match="upload of an extract was interrupted"):
        Extract.open(folder("ward"))
    check_free(folder("ward"), force=False)  # it may be written again
    upload_extract(ward, folder("ward"))
    assert Extract.open(folder("ward")).fingerprint == Extract.open(ward).fingerprint


def test_nothing_else_is_overwritten(s3: S3Server, ward: Path):
    folder("ward").write("notes.txt", b"")
    with pytest.raises(FlowsheetError, match=r"objects other than an extract, such as notes\.txt"):
        check_free(folder("ward"), force=True)
    upload_extract(ward, folder("other"))
    with pytest.raises(FlowsheetError, match="already an extract"):
        check_free(folder("other"), force=False)
    check_free(folder("other"), force=True)


def test_tables_without_a_manifest_are_not_read(s3: S3Server, ward: Path):
    with pytest.raises(CheckFailed, match="there is no extract here"):
        Extract.open(folder("nothing"))
    folder("tables").write("stays.parquet", (ward / "stays.parquet").read_bytes())
    with pytest.raises(CheckFailed, match="no manifest"):
        Extract.open(folder("tables"))
    folder("damaged").write("manifest.json", b'{"tables": 1}')
    with pytest.raises(CheckFailed, match="manifest is damaged"):
        Extract.open(folder("damaged"))


def test_a_cohort_reads_an_extract_but_no_raw_records(s3: S3Server, ward: Path):
    upload_extract(ward, folder("ward"))
    config = CohortConfig(name="own", source="extract", path="s3://hospital/ward")
    local = CohortConfig(name="own", source="extract", path=str(ward))
    assert make_source(config).fingerprint() == make_source(local).fingerprint()
    raw = CohortConfig(name="mimic3", source="mimic3", path="s3://hospital/mimic3")
    with pytest.raises(UsageError, match="raw records from local files only"):
        make_source(raw)


def test_commands_write_check_and_erase_extracts(s3: S3Server, capsys: pytest.CaptureFixture[str]):
    simulate = ["simulate", "s3://hospital/ward", "--stays", "12", "--cohort", "simulated_small"]
    main(simulate)
    assert "uploaded    s3://hospital/ward" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(simulate)
    assert stopped.value.code == 1
    main(["validate", "s3://hospital/ward"])
    before = Extract.open(folder("ward"))
    subject = before.scan("stays").collect()["subject_id"][0]
    main(["erase", str(subject), "--in", "s3://hospital/ward"])
    after = Extract.open(folder("ward"), verify=True)
    assert after.manifest.counts["subjects"] == before.manifest.counts["subjects"] - 1
    assert not before.path.is_dir()
