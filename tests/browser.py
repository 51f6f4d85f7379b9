"""Headless Chromium that opens pages of running servers, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
_START_SECONDS = 60.0


class Browser:
    """One tab of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self.errors: list[str] = []
        """Exceptions of the pages' scripts, since the last call of :meth:`open`."""
        for domain in ("Page", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.errors.append(
                    details.get("exception", details).get("description", str(details))
                )
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return dict(message["result"])

    def run_before_pages(self, script: str) -> None:
        """Run a script in each page that is opened from now on, before its own ones."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        """Open a page."""
        self.call("Page.navigate", url="about:blank")  # to differ in more than what follows a #
        self.errors.clear()
        self.call("Page.navigate", url=url)

    def text(self) -> str:
        """The text that a reader of the page sees."""
        expression = "document.body ? document.body.innerText : ''"
        return str(self.call("Runtime.evaluate", expression=expression)["result"]["value"])

    def wait_for(self, *texts: str, seconds: float = 60.0) -> str:
        """The page's text, once it contains all of ``texts`` or the time is over."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.text()
            if all(text in shown for text in texts) or time.monotonic() > deadline:
                return shown
            time.sleep(0.2)

    def screenshot(self, file: Path, width: int = 1280, height: int = 900) -> None:
        """Write a picture of the page."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        time.sleep(1)
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A browser that runs within the block; ``profile`` is a new folder."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    options += [f"--user-data-dir={profile}", "--remote-debugging-port=0", "--window-size=1280,900"]
    process = subprocess.Popen(
        [str(CHROMIUM), *options, "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_find_tab(profile), max_size=None, proxy=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(30)


def _find_tab(profile: Path) -> str:
    """The address of the browser's only tab."""
    ports = profile / "DevToolsActivePort"
    deadline = time.monotonic() + _START_SECONDS
    while not (ports.is_file() and ports.read_text(encoding="utf-8").strip()):
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.1)
    port = ports.read_text(encoding="utf-8").split()[0]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
        tabs = json.load(answer)
    return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))


def log_in_to_prefect(browser: Browser, login: str) -> None:
    """Let the pages of a Prefect server find its login where their form would have put it."""
    password = base64.b64encode(login.encode()).decode()
    store = f"localStorage.setItem('prefect-password', '{password}')"
    browser.run_before_pages(f"if (origin != 'null') {store}")  # about:blank has no storage
