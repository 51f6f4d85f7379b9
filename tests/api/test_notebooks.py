"""The notebooks of examples/ run in Jupyter, from an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.server
@pytest.mark.parametrize("name", [pytest.param("first_steps", marks=pytest.mark.slow), "own_model"])
def test_a_notebook_runs(name, tmp_path, monkeypatch, flowsheet_home):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("FLOWSHEET_HOME", str(flowsheet_home))
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert all(outputs[1:]), "a cell shows nothing"


def test_notebooks_are_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    for file in EXAMPLES.glob("*.ipynb"):
        notebook = nbformat.read(file, as_version=4)
        assert not any(cell.get("outputs") for cell in notebook.cells), file.name
