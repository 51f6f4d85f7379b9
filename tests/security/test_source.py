"""Nothing in the source loads pickles or runs what it reads, and no credential is shipped."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])

PICKLE_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    "jsonpickle",
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("pd.read_pickle", "pandas.read_pickle"),
}
REQUIRED_ARGUMENTS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
CREDENTIALS = {
    "user and password in a URL": r"://[\w.-]+:(?!\$|\{|\.\.\.|\*\*\*)[^\s/@'\"`]+@",
    "a password that is written out": (
        r"(?i)\b\w*(?:password|passwd|secret|api_?key|auth_string)[\"']?(?::|\s*=)\s*"
        r"[\"'][^\"'$]+[\"']"
    ),
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a cloud key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
}


def find_dangerous_code(source: str) -> list[str]:
    """Where the source could run code from a file or from a user."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in imported_modules(node):
                if module.split(".")[0] in PICKLE_MODULES:
                    found.append(f"{node.lineno}: import {module}")
        if isinstance(node, ast.Call) and is_dangerous(node):
            found.append(f"{node.lineno}: {ast.unparse(node.func)}")
    return found


def imported_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


def is_dangerous(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    constants = {
        keyword.arg: keyword.value.value
        for keyword in call.keywords
        if isinstance(keyword.value, ast.Constant)
    }
    if name in FORBIDDEN_CALLS or constants.get("shell") is True:
        return True
    if name not in REQUIRED_ARGUMENTS:
        return False
    argument, value = REQUIRED_ARGUMENTS[name]
    return constants.get(argument, ...) is not value


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_loads_a_pickle_or_runs_what_it_reads(file):
    assert find_dangerous_code(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "np.save(f, a)",
        "yaml.load(f)",
        "eval(x)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_the_scan_finds_dangerous_code(line):
    assert find_dangerous_code(line)


def test_mlflow_loads_no_pickles():
    name = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
    code = (
        "import os; from flowsheet.tracking.store import connect;"
        f"connect(); print(os.environ[{name!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={key: value for key, value in os.environ.items() if key != name},
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert done.stdout == "false\n"


def shipped_files() -> list[Path]:
    """Every text file under version control, tests aside."""
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    names = done.stdout.split()
    if not names:
        pytest.skip("not a git checkout")
    files = [
        ROOT / name for name in names if not name.startswith("tests/") and not name.endswith(".png")
    ]
    return [file for file in files if file.is_file()]


def test_no_credential_is_shipped():
    found = []
    for file in shipped_files():
        text = file.read_text(encoding="utf-8")
        for kind, pattern in CREDENTIALS.items():
            for match in re.finditer(pattern, text):
                if "ada:lovelace" not in match.group():  # in a doctest
                    found.append(f"{file.relative_to(ROOT)}: {kind}: {match.group()}")
    assert found == []


@pytest.mark.parametrize(
    "line", ["postgresql://me:mine@db/x", 'password = "changeme"', "'api_key': 'abc'"]
)
def test_the_scan_finds_credentials(line):
    assert any(re.search(pattern, line) for pattern in CREDENTIALS.values())
