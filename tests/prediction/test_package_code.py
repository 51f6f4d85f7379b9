"""The code in a model package has what it reads."""

from __future__ import annotations

import ast
import io
import re
import zipfile

from flowsheet.models.base import MODELS
from flowsheet.prediction.package_code import collect_code
from tests.conftest import ROOT

CATALOGUE = "flowsheet/cohort/catalogue.py"


def find_readers() -> dict[str, set[str]]:
    """{function of the catalogue: files that it reads}."""
    module = ast.parse((ROOT / "src" / CATALOGUE).read_text(encoding="utf-8"))
    return {
        node.name: set(re.findall(r"_read\('([\w.]+)'", ast.unparse(node)))
        for node in module.body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_file_that_the_carried_code_reads_is_carried():
    archive = zipfile.ZipFile(io.BytesIO(collect_code(MODELS.get("lstm")).archive))
    names = set(archive.namelist())
    modules = [name for name in names if name.endswith(".py") and name != CATALOGUE]
    code = "\n".join(archive.read(name).decode() for name in modules)
    readers = {reader: files for reader, files in find_readers().items() if files}
    assert {"_shipped", "vasopressor_equivalents"} <= readers.keys()
    for reader, files in readers.items():
        if re.search(rf"\b{reader}\b", code):
            assert {f"flowsheet/cohort/concepts/{file}" for file in files} <= names, reader
