"""The state folder of the last release: this one migrates it, loads it, or refuses it in words.

``tests/fixtures/make_release_home.py`` makes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flowsheet.cohort.extract import SCHEMA_VERSION, Extract
from flowsheet.errors import CheckFailed, FlowsheetError
from flowsheet.lifecycle.runtime.prefect_database import check_not_newer
from flowsheet.prediction.manifest import write_manifest
from flowsheet.prediction.model_package import PACKAGE_VERSION, ModelPackage
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.schema_revisions import list_revisions, read_revision
from flowsheet.tracking.model_registry import get_version_by_alias
from flowsheet.tracking.registered_packages import load_package
from flowsheet.tracking.schema_migration import migrate_database
from tests.e2e.conftest import run_flowsheet
from tests.fixtures.make_release_home import ARCHIVE, EXPECTED, EXPERIMENT, MODEL, unpack

MLFLOW = ("mlflow", "store/db_migrations/versions")
PREFECT = ("prefect", "server/database/_migrations/versions/sqlite")
UNKNOWN = "ffffffffffff"


@pytest.fixture(scope="module")
def release_home(tmp_path_factory) -> Path:
    return unpack(ARCHIVE, tmp_path_factory.mktemp("a release") / "home")


@pytest.fixture
def home(release_home, monkeypatch) -> Path:
    monkeypatch.setenv("FLOWSHEET_HOME", str(release_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return release_home


@pytest.fixture
def extract_folder(home) -> Path:
    return home / "store" / "extract" / read_json(home / EXPECTED)["extract"] / "extract"


def set_revision(database: Path, revision: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = ?", [revision])


def load_champion() -> ModelPackage | CheckFailed:
    """The release's model, or why this release does not load it."""
    try:
        return load_package(get_version_by_alias(MODEL, "champion"))
    except CheckFailed as error:
        return error


def test_its_model_predicts_the_same_or_is_refused_with_its_release(home, extract_folder):
    expected = read_json(home / EXPECTED)
    package = load_champion()
    if isinstance(package, CheckFailed):  # right after windows or model have got a new version
        assert f"release {expected['release']} trained the model" in package.what
        assert "use the release that trained it" in str(package.todo)
        return
    risks = package.predict(Extract.open(extract_folder).tables())["risk"]
    np.testing.assert_allclose(risks.to_numpy(), expected["risks"], rtol=0, atol=1e-6)


def test_its_runs_versions_and_decisions_are_listed(home, call_flowsheet):
    for what, word in (
        ("runs", "demo"),
        ("registry", MODEL),
        ("decisions", "first release"),
    ):
        result = call_flowsheet(home, "ls", what)
        assert result.returncode == 0, result.stderr
        assert word in result.stdout


def test_its_extract_is_valid_or_of_another_contract(extract_folder):
    recorded = read_json(extract_folder / "manifest.json")
    if recorded["schema_version"] == SCHEMA_VERSION:
        assert Extract.open(extract_folder, verify=True).fingerprint == recorded["fingerprint"]
    else:
        with pytest.raises(CheckFailed, match=r"of release .* reads version"):
            Extract.open(extract_folder)


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_an_extract_of_another_contract_is_refused_with_its_release(
    extract_folder, tmp_path, version
):
    folder = shutil.copytree(extract_folder, tmp_path / "extract")
    manifest = read_json(folder / "manifest.json")
    changes = {"schema_version": version, "flowsheet": "9.1.0", "a later field": 1}
    write_json(folder / "manifest.json", manifest | changes)
    with pytest.raises(CheckFailed, match=rf"schema version {version}, of release 9\.1\.0"):
        Extract.open(folder)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("package.json", {"package_version": PACKAGE_VERSION + 1, "task": {}}, "the package with"),
        ("package.json", {"kind": "a_later_kind"}, "a model of the kind 'a_later_kind'"),
        ("model/model.json", {"params": {"a_later_one": 1}}, "does not know: a_later_one"),
    ],
)
def test_a_model_package_of_a_newer_release_is_refused_with_its_release(
    home, tmp_path, file, change, reason
):
    (package,) = home.rglob("model_package")
    folder = shutil.copytree(package, tmp_path / "model_package")
    description = read_json(folder / "package.json")
    write_json(folder / "package.json", description | {"flowsheet": "9.1.0"})
    write_json(folder / file, read_json(folder / file) | change)
    write_manifest(folder)
    with pytest.raises(CheckFailed, match=rf"release 9\.1\.0 .*{reason}") as error:
        ModelPackage.load(folder)
    assert "use the release that trained it" in str(error.value.todo)


def test_the_revisions_of_the_libraries_are_those_of_alembic():
    from alembic.script import ScriptDirectory

    for library, folder in (MLFLOW, PREFECT):
        revisions = list_revisions(library, folder)
        assert len(revisions.heads) == 1
        assert len(revisions.known) > 50
    from mlflow.store import db_migrations

    (head,) = list_revisions(*MLFLOW).heads
    assert ScriptDirectory(str(Path(db_migrations.__file__).parent)).get_current_head() == head


def test_decisions_of_a_newer_release_are_refused_in_words(tmp_path, call_flowsheet):
    home = unpack(ARCHIVE, tmp_path / "home")
    database = home / "mlflow" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        later = """replace(value, '{"', '{"a_later_field":1,"')"""
        changed = connection.execute(f"update tags set value = {later} where key = 'decision'")
        assert changed.rowcount == 1
    result = call_flowsheet(home, "ls", "decisions")
    assert result.returncode == 1
    assert "a newer release wrote it" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_mlflows_older_tables_are_migrated_and_a_copy_is_kept(home, tmp_path, call_flowsheet):
    older = unpack(ARCHIVE, tmp_path / "older 100%")
    database = older / "mlflow" / "mlflow.db"
    newest = read_revision(database)
    downgrade_mlflow(database)
    before = read_revision(database)
    assert before != newest
    result = call_flowsheet(older, "ls", "decisions")
    assert result.returncode == 0, result.stderr
    assert "first release" in result.stdout
    assert f"mlflow.db.before-upgrade-of-{before}" in result.stderr
    assert list_revisions(*MLFLOW).heads == {read_revision(database)}
    assert read_revision(database.with_name(f"mlflow.db.before-upgrade-of-{before}")) == before
    assert migrate_database(database) is None


def downgrade_mlflow(database: Path) -> None:
    """Undo MLflow's latest migration."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    command.downgrade(_get_alembic_config(f"sqlite:///{database}"), "-1")


def test_databases_of_newer_libraries_are_refused_and_left_alone(home, tmp_path):
    for name, check in (("mlflow", migrate_database), ("prefect", check_not_newer)):
        database = tmp_path / f"{name}.db"
        shutil.copy(home / name / f"{name}.db", database)
        target = database if name == "mlflow" else tmp_path
        assert check(target) is None
        set_revision(database, UNKNOWN)
        before = database.read_bytes()
        with pytest.raises(FlowsheetError, match=f"a newer .* does not know the schema {UNKNOWN}"):
            check(target)
        assert database.read_bytes() == before


def test_an_address_of_an_older_database_is_explained(home, tmp_path, monkeypatch):
    from flowsheet.tracking.store import connect

    database = tmp_path / "own.db"
    shutil.copy(home / "mlflow" / "mlflow.db", database)
    set_revision(database, sorted(list_revisions(*MLFLOW).known - list_revisions(*MLFLOW).heads)[0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    with pytest.raises(FlowsheetError, match="another release of MLflow") as error:
        connect()
    assert "mlflow db upgrade" in error.value.todo


@pytest.mark.slow
@pytest.mark.server
def test_its_experiment_runs_again_after_prefects_tables_were_migrated(tmp_path):
    home = unpack(ARCHIVE, tmp_path / "home")
    database = home / "prefect" / "prefect.db"
    downgrade = ["-m", "prefect", "server", "database", "downgrade", "-y", "-r", "-1"]
    url = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
    subprocess.run([sys.executable, *downgrade], env={**os.environ, **url}, check=True)
    assert not list_revisions(*PREFECT).heads & {read_revision(database)}
    result = run_flowsheet(home, "run", *EXPERIMENT, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["reused"] == [] or "[ingest]" in result.stderr
    assert list_revisions(*PREFECT).heads == {read_revision(database)}
