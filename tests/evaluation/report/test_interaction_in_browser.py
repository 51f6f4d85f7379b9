"""In a real browser charts become interactive: names in a legend hide and show, tables sort."""

import json
import re

import pytest

from flowsheet.evaluation.report import render
from tests.evaluation.report.helpers import make_report
from tests.evaluation.report.test_page_in_browser import CHROMIUM, dump_dom

HARNESS = """<!doctype html><title>harness</title><body style="margin:0"><script>
const frame = document.createElement("iframe");
frame.style.cssText = "width:1280px;height:6000px;border:0"; frame.src = "report.html";
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const paths = (chart) => chart.querySelectorAll(".mark-line path").length;
frame.onload = async () => {
  const page = frame.contentDocument, measured = {};
  const roc = page.querySelector("#curves .chart"), last = page.querySelector("#models .chart");
  roc.scrollIntoView();
  await wait(3000);
  measured.interactive = roc.dataset.interactive === "true";
  measured.folded = last.dataset.interactive === "true";
  const before = paths(roc);
  const symbol = roc.querySelector(".role-legend-symbol path");
  for (const type of ["pointerdown", "mousedown", "pointerup", "mouseup", "click"])
    symbol.dispatchEvent(new frame.contentWindow.MouseEvent(type, {bubbles: true}));
  await wait(1000);
  measured.hidden = before - paths(roc);
  const table = page.querySelector("#leaderboard table.sortable"), names = () =>
    [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
  const first = names(); table.tHead.rows[0].cells[0].click();
  measured.reordered = JSON.stringify(first) !== JSON.stringify(names());
  measured.download = roc.querySelectorAll("a[download]").length;
  const out = document.createElement("pre");
  out.id = "measured"; out.textContent = JSON.stringify(measured);
  document.body.replaceChildren(out);
};
document.body.append(frame);
</script>"""


@pytest.fixture(scope="module")
def measured(sequences, predictions, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed to open the report in")
    folder = tmp_path_factory.mktemp("interaction")
    html = render(make_report(sequences, predictions))
    (folder / "report.html").write_text(html, encoding="utf-8")
    (folder / "harness.html").write_text(HARNESS, encoding="utf-8")
    dom, log = dump_dom(folder)
    assert "CONSOLE" not in log, log
    return json.loads(re.search(r'<pre id="measured">(.*?)</pre>', dom, re.S)[1])


def test_a_chart_becomes_interactive_when_it_comes_into_view(measured):
    assert measured["interactive"]
    assert not measured["folded"]


def test_a_click_in_the_legend_hides_a_model(measured):
    assert measured["hidden"] == 1


def test_a_click_on_a_column_s_head_sorts(measured):
    assert measured["reordered"]


def test_a_chart_can_be_saved(measured):
    assert measured["download"] >= 1
