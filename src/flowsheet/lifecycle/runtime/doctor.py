"""What a machine needs for Flowsheet, checked: versions, state folder, servers, disk, settings."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from flowsheet import __version__
from flowsheet.compose import CONF
from flowsheet.config import FrozenModel
from flowsheet.errors import FlowsheetError, mask_secrets
from flowsheet.lifecycle.runtime.local_servers import find_prefect_url, is_responding
from flowsheet.state.home import home_path, is_open_to_others
from flowsheet.state.object_store import RemoteFolder
from flowsheet.state.store import STORE, shared_folder

Status = Literal["ok", "note", "wrong"]
_LIBRARIES = ("polars", "torch", "lightgbm", "optuna", "prefect", "mlflow", "pandera")
_PORTS = {"mlflow": 5000, "prefect": 4200, "serve": 8000}
"""Default ports of ``flowsheet ui`` and ``flowsheet serve``."""
_LITTLE_SPACE, _NO_SPACE = 10e9, 1e9
"""Free bytes below which a larger run may fail, and below which any run may."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_DEBUG_SETTINGS = ("PREFECT_DEBUG_MODE", "PREFECT_TEST_MODE", "MLFLOW_RUN_ID")
"""Settings of other tools that are meant for one process, not for a machine."""


class Check(FrozenModel):
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    todo: str = ""


def examine() -> list[Check]:
    """All checks, without a change to the machine: nothing is created, started or repaired."""
    return [
        *_check_versions(),
        _check_gpu(),
        *_check_folders(),
        *_check_space(),
        *_check_servers(),
        *_check_ports(),
        *_check_settings(),
    ]


def _check_versions() -> Iterator[Check]:
    yield Check(name="flowsheet", status="ok", detail=f"{__version__}, Python {_python()}")
    for library in _LIBRARIES:
        try:
            found = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            todo = "install flowsheet again, with -c constraints.txt"
            yield Check(name=library, status="wrong", detail="not installed", todo=todo)
        else:
            yield Check(name=library, status="ok", detail=found)


def _check_gpu() -> Check:
    try:
        import torch
    except ImportError:
        return Check(name="GPU", status="note", detail="unknown without torch")
    if not torch.cuda.is_available():
        return Check(name="GPU", status="ok", detail="none: networks train on the CPU")
    names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    detail = f"{', '.join(sorted(names))}; used with compute.device=auto or cuda"
    return Check(name="GPU", status="ok", detail=detail)


def _python() -> str:
    return platform.python_version()


def _check_folders() -> Iterator[Check]:
    try:
        folders = {"FLOWSHEET_HOME": home_path()}
    except FlowsheetError as error:
        yield Check(name="FLOWSHEET_HOME", status="wrong", detail=error.what, todo=error.todo or "")
        return
    try:
        shared = shared_folder()
    except FlowsheetError as error:
        yield Check(name=STORE, status="wrong", detail=error.what, todo=error.todo or "")
    else:
        if shared:
            yield _check_object_store(shared)
        elif os.environ.get(STORE):
            folders[STORE] = Path(os.environ[STORE]).absolute()
    for name, folder in folders.items():
        yield _check_folder(name, folder)


def _check_object_store(folder: RemoteFolder) -> Check:
    try:
        folder.read("erased.json")
    except FlowsheetError as error:
        return Check(name=STORE, status="wrong", detail=error.what, todo=error.todo or "")
    return Check(name=STORE, status="ok", detail=f"{folder} answers")


def _check_folder(name: str, folder: Path) -> Check:
    if not folder.exists():
        return Check(name=name, status="note", detail=f"{folder} is created by the first command")
    status = folder.stat()
    detail = f"{folder}, mode {status.st_mode & 0o7777:04o}"
    if not folder.is_dir():
        return Check(name=name, status="wrong", detail=f"{folder} is a file", todo="rename it")
    if not os.access(folder, os.W_OK | os.X_OK):
        todo = f"make it writable, or set {name} to another folder"
        return Check(name=name, status="wrong", detail=f"{detail}, not writable", todo=todo)
    if is_open_to_others(folder):
        is_shared = status.st_mode & stat.S_ISVTX or status.st_uid != os.geteuid()
        todo = f"set {name} to a folder of your own" if is_shared else f"chmod 700 {folder}"
        detail = f"{detail}: other users can enter it"
        return Check(name=name, status="wrong", detail=detail, todo=todo)
    return Check(name=name, status="ok", detail=f"{detail}, private")


def _check_space() -> Iterator[Check]:
    folder = home_path_or_cwd()
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free at {folder}"
    todo = "free disk space, or set FLOWSHEET_STORE to a folder on a larger disk"
    if free < _NO_SPACE:
        yield Check(name="disk", status="wrong", detail=detail, todo=todo)
    elif free < _LITTLE_SPACE:
        yield Check(name="disk", status="note", detail=detail, todo=todo)
    else:
        yield Check(name="disk", status="ok", detail=detail)


def home_path_or_cwd() -> Path:
    """The nearest folder above the state folder that exists."""
    try:
        path = home_path()
    except FlowsheetError:
        return Path.cwd()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _check_servers() -> Iterator[Check]:
    servers = {
        "PREFECT_API_URL": os.environ.get("PREFECT_API_URL", ""),
        "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI", ""),
    }
    for name, url in servers.items():
        if not url.startswith("http"):
            detail = mask_secrets(url) if url else "not set: a local one is used"
            yield Check(name=name, status="ok", detail=detail)
        elif is_responding(f"{url.rstrip('/')}/health"):
            yield Check(name=name, status="ok", detail=f"{mask_secrets(url)} answers")
        else:
            todo = f"start the server, or unset {name} to use a local one"
            detail = f"{mask_secrets(url)} does not answer"
            yield Check(name=name, status="wrong", detail=detail, todo=todo)
    try:
        running = find_prefect_url(home_path())
    except FlowsheetError:
        return
    detail = f"runs at {running}" if running else "not running; a run starts it"
    yield Check(name="local Prefect server", status="ok", detail=detail)


def _check_ports() -> Iterator[Check]:
    for server, port in _PORTS.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                todo = f"choose another port for {server}, or stop the process that listens there"
                yield Check(name=f"port {port}", status="note", detail="taken", todo=todo)
            else:
                yield Check(name=f"port {port}", status="ok", detail="free")


def _check_settings() -> Iterator[Check]:
    for name in (*_PROXIES, *map(str.lower, _PROXIES)):
        if value := os.environ.get(name):
            detail = f"{mask_secrets(value)}; loopback is reached without it"
            yield Check(name=name, status="note", detail=detail)
    for name in _DEBUG_SETTINGS:
        if name in os.environ:
            todo = f"unset {name}"
            detail = "is set, and is meant for single processes"
            yield Check(name=name, status="note", detail=detail, todo=todo)
    for folder in filter(None, os.environ.get(CONF, "").split(os.pathsep)):
        if not Path(folder).is_dir():
            todo = "unset it, or set it to folders with the layout of conf/"
            yield Check(name=CONF, status="wrong", detail=f"{folder} is no folder", todo=todo)
