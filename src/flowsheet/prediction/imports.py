"""Which modules a module imports, read from its source: nothing is executed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


def find_reachable(roots: Iterable[str], packages: Iterable[str]) -> dict[str, Path]:
    """{module: file} of the roots and of all that they import from these top-level packages.

    Imports inside functions count, those for type checkers alone do not. The packages above a
    module belong to it, since Python imports them first.
    """
    allowed = set(packages)
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        file = _find_source(module) if module.partition(".")[0] in allowed else None
        if file is None or module in found:
            continue
        found[module] = file
        waiting += [parent for parent in [module.rpartition(".")[0]] if parent]
        waiting += _imports(module, file)
    return found


def find_libraries(modules: dict[str, Path]) -> set[str]:
    """Top-level modules that these import, without Python's own and without their own packages."""
    imported = {
        name.partition(".")[0]
        for module, file in modules.items()
        for name in _imports(module, file)
    }
    return imported - sys.stdlib_module_names - {module.partition(".")[0] for module in modules}


def _find_source(module: str) -> Path | None:
    """The module's file; None if there is no such module, or only an attribute of that name."""
    top, *rest = module.split(".")
    loaded = sys.modules.get(top)
    spec = loaded.__spec__ if loaded is not None else find_spec(top)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if spec.origin and not rest else None
    for folder in spec.submodule_search_locations:
        path = Path(folder, *rest)
        candidates = (
            [path / "__init__.py", path.with_name(f"{path.name}.py")]
            if rest
            else [path / "__init__.py"]
        )
        for file in candidates:
            if file.is_file():
                return file
    return None


@lru_cache(maxsize=1024)
def _imports(module: str, file: Path) -> tuple[str, ...]:
    """Names that may be modules: of ``from a import b`` both ``a`` and ``a.b``."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(file.read_bytes(), str(file))
    return tuple(name for node in _executed(tree) for name in _names(node, package))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but the bodies of ``if TYPE_CHECKING``."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _executed(child)


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            kept = parents[: len(parents) - node.level + 1]
            base = ".".join([*kept, *filter(None, [node.module])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
