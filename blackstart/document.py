"""YAML and JSON files, with the line of every value, so that a problem can say where it stands.

Invariant: a file that is not well formed is refused as a whole, with file, line and column.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from pathlib import Path

SIZE_MAX_BYTES: Final = 4 * 1024 * 1024
_LAST_STEP: Final = re.compile(r"(\.[^.\[\]]+|\[\d+\])$")


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds, and on which line each path into it (`method[0].provider`) begins."""

    path: Path
    content: Any
    lines: dict[str, int]
    problems: tuple[Problem, ...] = ()  # found while reading: keys that are there twice

    def where(self, path: str) -> str:
        """Place of *path* as "file:line: path", with the line of the nearest part that is there."""
        nearest = path
        while nearest and nearest not in self.lines:
            nearest = _LAST_STEP.sub("", nearest) if _LAST_STEP.search(nearest) else ""
        return f"{self.path}:{self.lines.get(nearest, 1)}" + (f": {path}" if path else "")


def load(path: Path) -> Document:
    """Reads *path*: JSON where its name ends in .json, YAML otherwise.

    Raises:
        SpecError: it cannot be read or is not well formed.
    """
    text = _text(path)
    try:
        if path.suffix == ".json":
            content = json.loads(text)
            return Document(path, content, {})
        walk = _Walk(str(path))
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise SpecError(Problem(str(path), "is empty"))
            walk.visit(root, "")
            content = loader.construct_document(root)
        finally:
            loader.dispose()
    except json.JSONDecodeError as error:
        raise SpecError(Problem(f"{path}:{error.lineno}:{error.colno}", f"not JSON: {error.msg}")) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(Problem(place, f"not YAML: {error.problem or error.context}")) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecError(Problem(str(path), f"not readable: {error}")) from error
    return Document(path, content, walk.lines, tuple(walk.problems))


def load_mapping(path: Path) -> Document:
    """`load`, for files whose root must be a mapping."""
    document = load(path)
    if not isinstance(document.content, dict):
        raise SpecError(Problem(document.where(""), "the file must hold a mapping"))
    return document


def _text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > SIZE_MAX_BYTES:
            raise SpecError(Problem(str(path), f"is larger than {SIZE_MAX_BYTES} bytes"))
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    except UnicodeDecodeError as error:
        raise SpecError(Problem(str(path), f"is not UTF-8 text: {error.reason} at byte {error.start}")) from error


@dataclass(slots=True)
class _Walk:
    """Collects the line of every path, and keys that hide one another."""

    file: str
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def visit(self, node: yaml.Node, path: str) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, f"{path}[{index}]")
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
                inner = f"{path}.{name}" if path else name
                line = key.start_mark.line + 1
                if name in seen and name != "<<":
                    self.problems.append(Problem(f"{self.file}:{line}: {inner}", "is there twice: the last would win"))
                seen.add(name)
                self.lines[inner] = line
                self.visit(value, inner)
