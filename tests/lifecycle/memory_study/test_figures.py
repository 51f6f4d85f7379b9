"""Every figure is a self-contained SVG file."""

from __future__ import annotations

from xml.etree import ElementTree

from flowsheet.lifecycle.memory_study.figures import export_figures
from tests.lifecycle.memory_study.helpers import make_memory_report


def test_every_file_has_its_caption():
    figures = export_figures(make_memory_report())
    assert set(figures) == {"effect_insulin", "gradients", "oracle_bound", "effect_matrix"}
    for name, svg in figures.items():
        root = ElementTree.fromstring(svg)
        texts = [node.text or "" for node in root.iter() if node.tag.endswith("text")]
        assert len(" ".join(texts)) > 60, name
