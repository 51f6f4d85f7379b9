"""No byte of a model package is loaded that is not the one that was written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.errors import CheckFailed
from flowsheet.prediction.manifest import MANIFEST, verify_manifest, write_manifest
from flowsheet.prediction.model_package import ModelPackage


@pytest.fixture
def folder(model_package, tmp_path) -> Path:
    """A copy of a model package with a reference."""
    copy = Path(shutil.copytree(model_package.folder, tmp_path / "package"))
    (copy / "reference").mkdir()
    (copy / "reference" / "reference.json").write_text('{"version": 2}', encoding="utf-8")
    write_manifest(copy)
    return copy


def double_the_scaler(folder: Path) -> None:
    scaler = json.loads((folder / "scaler.json").read_text(encoding="utf-8"))
    scaler["spread"] = [2 * spread for spread in scaler["spread"]]
    (folder / "scaler.json").write_text(json.dumps(scaler), encoding="utf-8")


def change_a_weight(folder: Path) -> None:
    path = next((folder / "model").iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def link_to_another_file(folder: Path) -> None:
    moved = (folder / "scaler.json").rename(folder.parent / "scaler.json")
    (folder / "scaler.json").symlink_to(moved)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change_a_weight, "changed: model/"),
        (double_the_scaler, "changed: scaler.json"),
        (link_to_another_file, "changed: scaler.json"),
        (lambda f: (f / "scaler.json").unlink(), "missing: scaler.json"),
        (lambda f: shutil.rmtree(f / "reference"), "missing: reference/reference.json"),
        (
            lambda f: (f / "reference" / "reference.json").write_text(
                '{"version": 1}', encoding="utf-8"
            ),
            "changed: reference/reference.json",
        ),
        (lambda f: (f / "model" / "more.npy").write_bytes(b"x"), "added: model/more.npy"),
        (lambda f: (f / MANIFEST).unlink(), "has no manifest.json"),
        (
            lambda f: (f / MANIFEST).write_text("{", encoding="utf-8"),
            "manifest.json cannot be read",
        ),
        (
            lambda f: (f / MANIFEST).write_text('{"files": [1]}', encoding="utf-8"),
            "manifest.json cannot be read",
        ),
    ],
)
def test_a_changed_package_is_refused_by_the_name_of_the_file(
    folder: Path, damage: Callable[[Path], None], words: str
):
    damage(folder)
    with pytest.raises(CheckFailed, match=re.escape(words)):
        ModelPackage.load(folder)


def test_a_consistent_package_that_is_another_one_is_refused(folder: Path):
    digest = verify_manifest(folder).digest
    double_the_scaler(folder)
    changed = write_manifest(folder)
    assert ModelPackage.load(folder).digest == changed != digest
    with pytest.raises(CheckFailed, match="not the one that was registered"):
        ModelPackage.load(folder, digest)


def test_a_package_without_its_scaler_is_refused_even_with_a_manifest_that_says_so(folder: Path):
    (folder / "scaler.json").unlink()
    write_manifest(folder)
    with pytest.raises(CheckFailed, match=r"has no scaler\.json, but logistic_regression"):
        ModelPackage.load(folder)


@given(contents=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.binary()))
def test_equal_files_have_equal_digests(contents, tmp_path_factory):
    digests = set()
    for names in (sorted(contents), sorted(contents, reverse=True)):
        folder = tmp_path_factory.mktemp("files")
        for name in names:
            (folder / name).write_bytes(contents[name])
        digests.add(write_manifest(folder))
        assert dict(verify_manifest(folder).files).keys() == contents.keys()
    assert len(digests) == 1


def test_a_mean_does_not_depend_on_threads():
    """The reference's sketches are part of the package: equal trainings give equal bytes."""
    import polars as pl

    from flowsheet.monitoring.performance import RISK_SCHEMA
    from flowsheet.monitoring.reference import mean_risk_profile

    rng = np.random.default_rng(0)
    stay = np.sort(rng.integers(0, 500, 20_000))
    risks = pl.DataFrame(
        {
            "stay_id": stay,
            "subject_id": stay,
            "risk": rng.random(20_000),
            "y": np.zeros(20_000, int),
            "scored": np.ones(20_000, bool),
            "weight": np.ones(20_000),
        },
        schema=RISK_SCHEMA,
    )
    first, *others = (mean_risk_profile(risks)["value"].to_list() for _ in range(20))
    assert all(other == first for other in others)
