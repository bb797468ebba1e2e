"""The tree keeps to its own rules: short files, short functions, names that say something, plain package names.

Generated code is exempt. An exception is named here, with its reason and its own limit, or it is none.
"""

from __future__ import annotations

import ast
import importlib.metadata
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("protos", "agent", "controller", "blackstart", "experiments", "deploy", "tests")
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "handler", "data", "misc", "tools", "stuff"}

# path, or path::function -> (lines allowed, why)
EXCEPTIONS: dict[str, tuple[int, str]] = {}


def sources() -> list[Path]:
    """Every Python file of ours that a person writes."""
    found = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    return sorted(path for path in found if "_pb2" not in path.name and "__pycache__" not in path.parts)


def label(path: Path, function: str = "") -> str:
    return str(path.relative_to(ROOT)) + (f"::{function}" if function else "")


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length of each function in *path*, decorators left out."""
    nodes = ast.walk(ast.parse(text(path), filename=str(path)))
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_there_is_something_to_check():
    assert len(sources()) > 50
    assert any(name == "test_there_is_something_to_check" for name, _ in functions(Path(__file__)))


def test_files_are_short():
    lengths = {label(path): len(text(path).splitlines()) for path in sources()}
    allowed = {name: EXCEPTIONS.get(name, (FILE_LINES_MAX, ""))[0] for name in lengths}
    long = [
        f"{name}: {lines} lines, allowed {allowed[name]}" for name, lines in lengths.items() if lines > allowed[name]
    ]
    assert not long, "split these by what they are about:\n" + "\n".join(long)


def test_functions_are_short():
    long = []
    for path in sources():
        for name, lines in functions(path):
            allowed = EXCEPTIONS.get(label(path, name), (FUNCTION_LINES_MAX, ""))[0]
            if lines > allowed:
                long.append(f"{label(path, name)}: {lines} lines, allowed {allowed}")
    assert not long, "give their steps names:\n" + "\n".join(long)


def test_exceptions_are_still_needed():
    lengths = {label(path): len(text(path).splitlines()) for path in sources()}
    lengths |= {label(path, name): lines for path in sources() for name, lines in functions(path)}
    limits = {name: FUNCTION_LINES_MAX if "::" in name else FILE_LINES_MAX for name in EXCEPTIONS}
    stale = [name for name in EXCEPTIONS if lengths.get(name, 0) <= limits[name]]
    assert not stale, f"no longer too long, or gone: {stale}"


def test_module_names_say_something():
    bad = [label(path) for path in sources() if {path.stem, path.parent.name} & EMPTY_NAMES]
    bad += [label(path) for path in sources() if path.stem.endswith(("_utils", "_helpers", "_manager", "_handler"))]
    assert not bad, f"name these after what they hold: {bad}"


@pytest.mark.parametrize("package", ["protos", "agent", "controller", "blackstart", "experiments"])
def test_plain_package_names_are_ours_alone(package):
    """Plain top-level names could clash with another distribution's: then one would shadow the other in silence."""
    owners = set(importlib.metadata.packages_distributions().get(package, []))
    assert owners == {"blackstart"}, f"the top-level package {package} is of {owners}: install with `make` into .venv"
