"""Write a project, or one more model, source, database, metric, ... of it, from templates."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from flowsheet.cohort.responses.base import RESPONSES
from flowsheet.cohort.sources.base import SOURCES
from flowsheet.compose import choices
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.evaluation.metrics import METRICS
from flowsheet.models.base import MODELS
from flowsheet.plugins import Registry
from flowsheet.project import FILE, Project, current_project

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_REGISTRIES: dict[str, Registry[object]] = {
    "model": MODELS,  # type: ignore[dict-item]
    "source": SOURCES,  # type: ignore[dict-item]
    "database": SOURCES,  # type: ignore[dict-item]
    "metric": METRICS,  # type: ignore[dict-item]
    "response": RESPONSES,  # type: ignore[dict-item]
}
KINDS = (*_REGISTRIES, "experiment")
"""What ``flowsheet new`` writes."""

_PROJECT_FILES = {
    "flowsheet.toml": "flowsheet.toml",
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/tests.yml": "workflow.yml",
    "catalogue/variables.csv": "variables.csv",
    "notebooks/first_steps.ipynb": "first_steps.ipynb",
}
"""{file of the project: template}."""

_EXAMPLE_MODEL, _EXAMPLE_SOURCE = "current_row", "ward_csv"


def init_project(folder: Path) -> list[Path]:
    """Write a project with an example model and source, an experiment, and their tests.

    Returns:
        The files that were written.

    Raises:
        UsageError: the folder is not empty or cannot be written, or its name makes no package.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "the folder of a new project must be new or empty"
        raise UsageError(what, where=str(folder), todo="give another name")
    name = folder.absolute().name
    package = re.sub(r"[^a-z0-9_]", "_", name.lower())
    _check_name("package", package, todo="begin the folder's name with a letter")
    if package in {"flowsheet", "flows", "tests"} or package in sys.stdlib_module_names:
        what = f"a package called {package!r} would hide another one"
        raise UsageError(what, where=str(folder), todo="give another name")
    values = {"package": package, "project": name.lower()}
    files = {file: _render(template, values) for file, template in _PROJECT_FILES.items()}
    files[f"src/{package}/__init__.py"] = f'"""Own models, sources and metrics of {name}."""\n'
    files |= _render_new("model", _EXAMPLE_MODEL, package)
    files |= _render_new("source", _EXAMPLE_SOURCE, package)
    files |= _render_new("experiment", "first", package)
    return _write(folder, files)


def add_to_project(kind: str, name: str) -> list[Path]:
    """Write a new model, source, database, ... of the current project, with its test.

    Returns:
        The files that were written.

    Raises:
        UsageError: there is no project, the name is taken or is no name, or a file exists.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind!r} cannot be created", todo=did_you_mean(kind, KINDS))
    project = current_project()
    if project is None or project.package is None:
        raise UsageError(
            f"this is no project with a package: no {FILE} names one",
            where=str(Path.cwd()),
            todo="create a project with `flowsheet init FOLDER`, and work in that folder",
        )
    _check_name(kind, name, todo="use lower-case letters, digits and underscores")
    registry = _REGISTRIES.get(kind)
    taken = registry.names() if registry else choices(kind)
    if name in taken:
        what = f"the name of the {kind} is taken: {name!r} exists"
        raise UsageError(what, todo="give another name")
    return _write(project.root, _render_new(kind, name, project.package, project))


def _check_name(kind: str, name: str, todo: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} is not a name of a {kind}", todo=todo)


def _render_new(
    kind: str, name: str, package: str, project: Project | None = None
) -> dict[str, str]:
    """{file: content} of a new model, source, database, metric or experiment."""
    places = project or Project(Path())
    title = name.replace("_", " ").capitalize()
    values = {
        "name": name,
        "title": title,
        "class_name": title.title().replace(" ", ""),
        "package": package,
        "models": f"{_EXAMPLE_MODEL}, logistic_regression, ar1",
    }
    if kind == "experiment":
        if project:
            values["models"] = "logistic_regression, ar1"
        file = f"{places.conf}/experiment/{name}.yaml"
        return {file: _render("experiment.yaml", values)}
    code = f"{places.source_folder}/{package}/{kind}s"
    files = {f"tests/test_{name}.py": _render(f"test_{kind}.py", values)}
    if kind == "database":
        files[f"{code}/{name}.yaml"] = _render("database.yaml", values)
        files[f"{code}/{name}_items.csv"] = _render("database_items.csv", values)
    else:
        files[f"{code}/{name}.py"] = _render(f"{kind}.py", values)
    if not (places.root / code / "__init__.py").exists():
        files[f"{code}/__init__.py"] = ""
    folder = {"model": "model", "source": "cohort", "database": "cohort"}.get(kind)
    if folder:
        files[f"{places.conf}/{folder}/{name}.yaml"] = _render(f"{kind}_conf.yaml", values)
    return files


def _render(template: str, values: Mapping[str, str]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("flowsheet.lifecycle.scaffold"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        variable_start_string="<<",
        variable_end_string=">>",
        autoescape=False,
    )
    return environment.get_template(f"{template}.j2").render(values)


def _write(root: Path, files: Mapping[str, str]) -> list[Path]:
    """Write all files, or none if one of them exists."""
    paths = {root / name: text for name, text in files.items()}
    for path in paths:
        if path.exists():
            raise UsageError("the file exists", where=str(path), todo="give another name")
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"the file cannot be written: {error.strerror}"
        raise UsageError(what, where=str(error.filename)) from error
    return sorted(paths)
