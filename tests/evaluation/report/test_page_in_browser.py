"""The page in a real browser, as wide as a laptop and as a telephone, renders without errors."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

from flowsheet.evaluation.report import render
from tests.evaluation.report.helpers import make_report

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

HARNESS = """<!doctype html><title>harness</title><body style="margin:0"><script>
const measured = {}; let pending = 0;
for (const width of [1280, 400]) {
  const frame = document.createElement("iframe"); pending += 1;
  frame.style.cssText = `width:${width}px;height:900px;border:0`; frame.src = "report.html";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const drawings = [...page.querySelectorAll("figure svg.marks")];
    measured[width] = {
      scrollWidth: root.scrollWidth,
      brokenImages: [...page.images].filter(i => !i.complete || !i.naturalWidth).length,
      drawings: drawings.length,
      flatDrawings: drawings.filter(d => d.getBoundingClientRect().height < 20).length,
    };
    if (!--pending) {
      const out = document.createElement("pre");
      out.id = "measured"; out.textContent = JSON.stringify(measured);
      document.body.replaceChildren(out);
    }
  };
  document.body.append(frame);
}
</script>"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def dump_dom(folder):
    """(DOM of ``harness.html`` in the folder, log of the browser)."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
        ]
        options += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"]
        url = f"http://127.0.0.1:{server.server_port}/harness.html"
        done = subprocess.run(
            [CHROMIUM, *options, url],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            encoding="utf-8",
        )
    finally:
        server.shutdown()
        server.server_close()
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def browser_result(sequences, predictions, tmp_path_factory):
    """(measurements of the harness, log of the browser) for a report with every section."""
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed to open the report in")
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(
        render(make_report(sequences, predictions)), encoding="utf-8"
    )
    (folder / "harness.html").write_text(HARNESS, encoding="utf-8")
    dom, log = dump_dom(folder)
    text = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.S)
    assert text, dom[:2000]
    return json.loads(text[1]), log


@pytest.mark.parametrize("width", ["1280", "400"])
def test_every_drawing_is_visible_and_fits_the_width(browser_result, width):
    measured = browser_result[0][width]
    assert measured["scrollWidth"] <= int(width)
    assert measured["brokenImages"] == 0
    assert measured["drawings"] > 10
    assert measured["flatDrawings"] == 0


def test_the_browser_logs_no_error(browser_result):
    errors = [line for line in browser_result[1].splitlines() if "CONSOLE" in line]
    assert errors == []
