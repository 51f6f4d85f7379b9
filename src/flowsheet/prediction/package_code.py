"""The code in a model package: all that a prediction imports, in one archive ``code.zip``.

With it a registered model loads where Flowsheet is not installed: Python imports from the archive
as it is. It contains what predictions import, all of Flowsheet's models (so that several packages
can share one process), and of a plug-in the modules that its own one imports. The package's
manifest has the archive's sha256. Flowsheet's own commands never execute this code.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import flowsheet
from flowsheet.plugins import is_defined_in_notebook, is_plugin
from flowsheet.prediction.imports import find_libraries, find_reachable

CODE = "code.zip"
"""File of the package."""
_ROOTS = ("flowsheet.prediction.carried_code", "flowsheet.prediction.input_rows")
_DATA = (
    "cohort/concepts/drugs.csv",
    "cohort/concepts/variables.csv",
    "cohort/concepts/vasopressor_equivalents.csv",
)
"""Files of Flowsheet that these modules read."""
_RELEASE = "_version.py"
_LIBRARIES = {
    "lightgbm": "lightgbm",
    "numpy": "numpy",
    "orjson": "orjson",
    "pandas": "pandas",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
}
"""{module: name on the public index of packages} of every library that a requirement may name.

Anybody may register a name that the index does not have, and would have code installed beside
patient records. So no other name is ever written into a package.
"""
_NOT_FOR_PREDICTION = {"pyarrow", "scipy", "threadpoolctl"}
"""Libraries that Flowsheet's own modules import in functions that only fit, evaluate or read shards
of windows."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of all files in the archive, so that the same code gives the same bytes."""


class PackageCode(NamedTuple):
    """The code that travels with a model, and what its environment has to have."""

    archive: bytes
    sha256: str
    """Of the modules, whatever compressed them."""
    requirements: list[str]
    """Pinned to the installed versions, sorted."""
    not_included: list[str]
    """Modules that a plug-in imports and that no requirement may name."""


def collect_code(cls: type, members: Sequence[type] = ()) -> PackageCode:
    """The code that the predictions of a model of this class need, and of those in it."""
    files = dict(_own_files())
    modules = [part.__module__ for part in (cls, *members)]
    own = find_reachable([*_ROOTS, *modules], ["flowsheet"])
    libraries = find_libraries(own) - _NOT_FOR_PREDICTION
    not_included: set[str] = set()
    if is_plugin(cls):
        plugin = _plugin_modules(cls)
        files |= {
            _name_in_archive(module, file): file.read_bytes() for module, file in plugin.items()
        }
        libraries |= find_libraries(plugin) - {"flowsheet"}
        not_included = libraries - _LIBRARIES.keys()
    return PackageCode(
        archive=_pack(files),
        sha256=_digest(files),
        requirements=[_pin(_LIBRARIES[name]) for name in sorted(libraries & _LIBRARIES.keys())],
        not_included=sorted(not_included),
    )


def _plugin_modules(cls: type) -> dict[str, Path]:
    """{module: file} of a plug-in's package; none for a class that is defined in a notebook."""
    if is_defined_in_notebook(cls):
        return {}
    return find_reachable([cls.__module__], [cls.__module__.partition(".")[0]])


@lru_cache(maxsize=1)
def _own_files() -> Mapping[str, bytes]:
    """{path in the archive: bytes} of Flowsheet's own modules and data."""
    folder = Path(flowsheet.__file__).parent
    models = [
        f"flowsheet.models.{file.stem}" for file in sorted((folder / "models").glob("[!_]*.py"))
    ]
    modules = find_reachable([*_ROOTS, *models], ["flowsheet"])
    files = {_name_in_archive(module, file): file.read_bytes() for module, file in modules.items()}
    files |= {f"flowsheet/{name}": (folder / name).read_bytes() for name in _DATA}
    release = f'__version__ = "{flowsheet.__version__}"\n'
    return {**files, f"flowsheet/{_RELEASE}": release.encode()}


def _name_in_archive(module: str, file: Path) -> str:
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"


def _pack(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _digest(files: Mapping[str, bytes]) -> str:
    content = hashlib.sha256()
    for name in sorted(files):
        content.update(f"{name}\0{len(files[name])}\0".encode())
        content.update(files[name])
    return content.hexdigest()


def _pin(name: str) -> str:
    """The installed version; without a local part such as ``+cpu``, which no public index has."""
    return f"{name}=={version(name).partition('+')[0]}"
