"""Objects are written completely or not at all, read by their digest, and outages are reported."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from pathlib import Path

import pytest

from flowsheet.errors import CheckFailed, FlowsheetError, Unreachable, UsageError
from flowsheet.state.locations import local_path, parse_location
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.storage_providers import locate_azure, open_store
from tests.s3_server import S3Server, folder


def test_paths_are_local_and_urls_are_not():
    assert parse_location("ward/today") == Path("ward/today")
    assert parse_location("C") == Path("C")
    assert parse_location("s3://hospital/a/b/").url == "s3://hospital/a/b"  # type: ignore[union-attr]
    assert parse_location(Path("s3://hospital/a")).url == "s3://hospital/a"  # type: ignore[union-attr]
    assert parse_location("gs://hospital").url == "gs://hospital"  # type: ignore[union-attr]
    azure = parse_location("abfs://records@hospital.dfs.core.windows.net/ward")
    assert isinstance(azure, RemoteFolder)
    assert (azure.bucket, azure.prefix) == ("records@hospital.dfs.core.windows.net", "ward")


@pytest.mark.parametrize(
    "url",
    [
        *("s3://", "s3:///ward", "s3://key:secret@hospital/ward", "s3://hospital/../other"),
        *("s3://hospital//ward", "gs://user@hospital/ward", "abfs://a@b@c/ward"),
        *("abfs://hospital/ward?sv=1&sig=secret", "s3://hospital/ward#secret"),
        *("https://hospital/ward", "file:///tmp/ward", "hdfs://hospital/ward", "s4://hospital"),
    ],
)
def test_other_urls_are_refused_in_words_without_their_secrets(url: str):
    with pytest.raises(UsageError) as caught:
        parse_location(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://hospital/home", "s3:/hospital/home", "file:///tmp/x"])
def test_a_url_is_never_taken_for_a_local_path(url: str):
    with pytest.raises(UsageError, match="--out is a URL"):
        local_path(url, "--out")


@pytest.mark.parametrize(
    ("cloud", "login"),
    [
        ("core.chinacloudapi.cn", "https://login.chinacloudapi.cn"),
        ("core.usgovcloudapi.net", "https://login.microsoftonline.us"),
    ],
)
def test_a_url_of_another_azure_cloud_leads_there(
    cloud: str, login: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    pytest.importorskip("obstore", reason="flowsheet[azure] is not installed")
    store = open_store("abfs", f"records@hospital.dfs.{cloud}", "ward")
    endpoint = f"https://hospital.blob.{cloud}"
    expected = {"account_name": "hospital", "endpoint": endpoint, "authority_host": login}
    assert expected.items() <= store.config.items()
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.example.org")
    assert "authority_host" not in locate_azure(f"hospital.dfs.{cloud}")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:10000/hospital")
    assert locate_azure(f"hospital.dfs.{cloud}") == {"account_name": "hospital"}


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("hospital.privatelink.dfs.core.windows.net", None),
        ("hospital.z01.dfs.storage.azure.net", "https://hospital.z01.blob.storage.azure.net"),
        ("onelake.dfs.fabric.microsoft.com", "https://onelake.blob.fabric.microsoft.com"),
    ],
)
def test_other_hosts_of_azure_keep_their_parts(
    host: str, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert locate_azure(host).get("endpoint") == endpoint


def test_an_object_is_created_once_and_replaced_by_version(s3: S3Server):
    ward = folder("ward")
    assert ward.read("a.json") is None
    assert ward.create("a.json", b"1")
    assert not ward.create("a.json", b"2")
    first = ward.read("a.json")
    assert first is not None
    assert first.content == b"1"
    assert ward.replace("a.json", b"3", first.version)
    assert not ward.replace("a.json", b"4", first.version)
    assert ward.read("a.json").content == b"3"  # type: ignore[union-attr]
    (ward / "inner").write("b.json", b"")
    assert [entry.name for entry in ward.list()] == ["a.json", "inner/b.json"]
    ward.delete(["a.json", "nothing"])
    assert [entry.name for entry in ward.list()] == ["inner/b.json"]


def test_objects_that_do_not_exist_keep_no_others_from_being_deleted(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
):
    """Google's service, unlike S3, stops at the first object that does not exist."""
    import obstore

    delete = obstore.delete

    def stop_at_missing(store: object, paths: list[str]) -> None:
        for path in paths:
            obstore.head(store, path)
            delete(store, [path])

    monkeypatch.setattr(obstore, "delete", stop_at_missing)
    ward = folder("ward")
    for name in ("b", "d"):
        ward.write(name, b"x")
    ward.delete(["a", "b", "c", "d"])
    assert ward.list() == []


def test_files_are_compared_with_their_digest(s3: S3Server, tmp_path: Path):
    file, copy = tmp_path / "table", tmp_path / "copy" / "table"
    file.write_bytes(bytes(range(256)) * 60_000)  # uploaded in two parts
    ward = folder("ward")
    ward.upload(file, "table")
    ward.download("table", copy, hashlib.sha256(file.read_bytes()).hexdigest())
    assert copy.read_bytes() == file.read_bytes()
    with pytest.raises(CheckFailed, match="its sha256 differs"):
        ward.download("table", copy, "0" * 64)
    assert not copy.exists()
    with pytest.raises(CheckFailed, match="does not exist"):
        ward.download("nothing", copy, "0" * 64)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("403 Forbidden", "the object store denies access"),
        ("501 Not Implemented", "the object store refuses"),
        ("400 Bad Request", "the object store refuses"),
        ("503 Slow Down", "the object store does not answer"),
    ],
)
def test_answers_of_the_server_are_explained(s3: S3Server, answer: str, message: str):
    s3.stop_before, s3.stop_answer = "hospital", answer
    with pytest.raises(FlowsheetError, match=message) as caught:
        folder("ward").write("a.json", b"")
    s3.stop_answer = "503 Service Unavailable"
    assert "s3://hospital/ward/a.json" in str(caught.value)
    assert "round" not in str(caught.value)  # the secret key
    assert len(str(caught.value)) < 400


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r"flowsheet\[gcs\]"):
        RemoteFolder("gs", "hospital").read("a.json")


def test_a_missing_bucket_is_reported(s3: S3Server):
    with pytest.raises(FlowsheetError, match="the bucket or the object does not exist"):
        RemoteFolder("s3", "elsewhere").read("a.json")
    with pytest.raises(FlowsheetError, match="the bucket or the object does not exist"):
        RemoteFolder("s3", "elsewhere").write("a.json", b"")


def test_an_outage_is_retried_then_told(s3: S3Server):
    ward = folder("ward")
    ward.write("a.json", b"1")
    s3.stop()
    began = time.monotonic()
    with pytest.raises(Unreachable, match="the object store does not answer") as caught:
        ward.read("a.json")
    assert time.monotonic() - began > 0.4
    assert "Debug" not in str(caught.value)
    restart = threading.Timer(0.3, s3.start)
    restart.start()
    content = ward.read("a.json")
    restart.join()
    assert content is not None
    assert content.content == b"1"
