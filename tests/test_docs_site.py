"""The documentation site is built without a network and has no broken link."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import console_blocks

ROOT = Path(__file__).resolve().parents[1]
_FOREIGN = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?https?://[^">]*')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a broken link, anchor or reference is an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("docs") / "site"
    build_site(ROOT / "mkdocs.yml", folder)
    return folder


def build_site(config: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder]
    unreachable = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    result = subprocess.run(
        command,
        env={**os.environ, **unreachable, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr


def test_the_pages_load_nothing_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not _FOREIGN.findall(page.read_text(encoding="utf-8")), page.name


def test_the_reference_comes_from_the_docstrings(site: Path):
    api = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert "Split the windows by subject, reproducibly" in api
    assert "flowsheet.api.Extract.stay" in api
    assert ":func:" not in api
    assert "ModelConformance" in (site / "reference" / "testing.html").read_text(encoding="utf-8")


def test_a_broken_anchor_is_refused(tmp_path: Path):
    pytest.importorskip("mkdocs")
    strict = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("validation:")[2]
    validation = "validation:" + strict.partition("\nmarkdown_extensions")[0]
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: x\ntheme: mkdocs\n{validation}\n", encoding="utf-8")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "index.md"
    page.write_text("# One\n\n[there](#one)\n", encoding="utf-8")
    build_site(config, tmp_path / "site")
    page.write_text("# One\n\n[nowhere](#two)\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="#two"):
        build_site(config, tmp_path / "site")


@pytest.mark.parametrize("page", ["tutorial.md", "own-records.md"])
def test_the_commands_of_the_tutorials_are_run_with_the_readme(page: str):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    run = {line for reason, block in console_blocks() if not reason for line in block.splitlines()}
    assert lines
    assert set(lines) <= run
