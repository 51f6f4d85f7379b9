"""Rules of style that ruff does not know: documented arguments, and the words of the field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRIVATE_WORDS = re.compile(
    r"\b(told|tells?|said|says|mend(?:ed|s)?|held(?![- _]out)|rung|rings?|whoever|nobody|spoil\w*"
    r"|speaks?|spoken|whichever|wherever|befall\w*|foretold)\b",
    re.IGNORECASE,
)
"""Words that the code once used in senses of its own."""
PER_1000_LINES = {"src": 2.0, "flows": 2.0, "docs": 4.0, "README.md": 4.0}
FEW_PARAMETERS = 3
MAX_LINES = 400
"""Longest file of code: a longer one holds more than one concept."""


def _public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Public functions of a module, and public methods of its public classes."""
    for node in tree.body:
        is_public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if is_public and not _is_command(node):
            yield node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
            yield from (method for method in methods if not method.name.startswith("_"))


def _is_command(function: ast.FunctionDef) -> bool:
    """Whether it is a command of the command line, whose docstring is its help text."""
    decorators = {ast.unparse(decorator).split("(")[0] for decorator in function.decorator_list}
    return any(name.endswith(".command") for name in decorators)


def _parameters(function: ast.FunctionDef) -> list[str]:
    if function.name.startswith("test_"):
        return []  # the parameters of a shipped test are fixtures
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in {"self", "cls"}]


def test_public_functions_with_many_parameters_document_them():
    undocumented = []
    for file in sorted((ROOT / "src").rglob("*.py")):
        for function in _public_functions(ast.parse(file.read_text("utf-8"))):
            docstring = ast.get_docstring(function) or ""
            if len(_parameters(function)) > FEW_PARAMETERS and "Args:" not in docstring:
                undocumented.append(f"{file.relative_to(ROOT)}:{function.lineno} {function.name}")
    assert undocumented == []


def _lacks_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in an encoding that depends on the locale."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    keywords = {keyword.arg for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    without = {"read_text": 0, "write_text": 1}.get(name)
    return len(call.args) == without or ("text" in keywords and name in {"run", "Popen"})


@pytest.mark.parametrize("place", ["src", "flows", "tests", "benchmarks"])
def test_text_has_an_explicit_encoding(place):
    """As ruff's PLW1514, for the calls whose object's type ruff does not know."""
    found = []
    for file in sorted((ROOT / place).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _lacks_encoding(node):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize("place", ["src", "flows", "tests", "benchmarks"])
def test_files_hold_one_concept(place):
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines())
        for file in (ROOT / place).rglob("*.py")
    }
    assert {file: length for file, length in lengths.items() if length > MAX_LINES} == {}


@pytest.mark.parametrize(("place", "limit"), PER_1000_LINES.items())
def test_text_uses_the_words_of_the_field(place, limit):
    path = ROOT / place
    files = [path] if path.is_file() else [*path.rglob("*.py"), *path.rglob("*.md")]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    hits = [match for line in lines for match in PRIVATE_WORDS.findall(line)]
    assert 1000 * len(hits) / len(lines) <= limit, sorted(set(hits))
