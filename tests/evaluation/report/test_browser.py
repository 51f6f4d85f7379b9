"""The page in a real browser, as wide as a laptop and as a telephone: nothing fails, is missing or sticks out."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

from flowsheet.evaluation.report import render

from .test_report import full_report

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

HARNESS = """<!doctype html><title>harness</title><body style="margin:0"><script>
const found = {}; let left = 0;
for (const width of [1280, 400]) {
  const frame = document.createElement("iframe"); left += 1;
  frame.style.cssText = `width:${width}px;height:900px;border:0`; frame.src = "report.html";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const images = [...page.images].filter(i => !i.complete || !i.naturalWidth).length;
    const drawings = [...page.querySelectorAll("figure svg")];
    const flat = drawings.filter(d => d.getBoundingClientRect().height < 20).length;
    found[width] = {wide: root.scrollWidth, images, flat, drawings: drawings.length, height: root.scrollHeight};
    if (!--left) { const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found);
      document.body.replaceChildren(out); }
  };
  document.body.append(frame);
}
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def opened(ward, predictions, tmp_path_factory):
    """(what the harness found, what the browser said) of a full report."""
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed to open the report in")
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(render(full_report(ward, predictions)))
    (folder / "harness.html").write_text(HARNESS)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
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
            [CHROMIUM, *options, url], capture_output=True, text=True, timeout=120, check=True
        )
    finally:
        server.shutdown()
        server.server_close()
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert text, done.stdout[:2000]
    return json.loads(text[1]), done.stderr


@pytest.mark.parametrize("width", ["1280", "400"])
def test_nothing_is_missing_or_sticks_out(opened, width):
    found = opened[0][width]
    assert found["wide"] <= int(width)
    assert found["images"] == 0
    assert found["drawings"] > 10
    assert found["flat"] == 0


def test_the_browser_has_nothing_to_complain_about(opened):
    complaints = [line for line in opened[1].splitlines() if "CONSOLE" in line]
    assert complaints == []
