"""The catalogue of faults: every kind with its undo tier, its page and the JSON schema of its spec.

Generated from the faults themselves into `catalogue.json` (`make catalogue`), so that command line and controller can
explain and check faults without an agent. Invariant: reading it needs no controller and no third-party module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

from protos.error import Problem, SpecError

PATH: Final = Path(__file__).parent / "catalogue.json"
Json = dict[str, Any]

# Who is cut off from whom among an injection's targets; worked out by the controller (controller/run/shape.py).
SHAPES: Final = {
    "bridge": "two halves that see nothing of each other, and one agent that sees both (`apart`; else drawn)",
    "complete": "everybody from everybody",
    "halves": "the first half, by agent id, from the second; the first is the smaller",
    "isolate": "those `apart` (else one, drawn), together, from the rest",
    "majorities_ring": "each sees a majority, no two the same one; the ring is drawn; four agents at least",
    "minority_third": "fewer than a third, but one at least, drawn, from the rest",
    "primaries": "each of those `apart` from everybody, the other ones too",
    "random_halves": "halves that are drawn",
}
APART: Final = ("bridge", "isolate", "primaries")  # shapes that set some of the targets apart
SHAPED: Final = (
    "network.bandwidth", "network.corrupt", "network.delay", "network.duplicate", "network.loss", "network.partition",
    "network.reorder",
)  # fmt: skip
_SHAPE: Final[Json] = {
    "description": "who is cut off from whom among the targets; gives each its peers, in the place of `peers`",
    "enum": list(SHAPES),
}
_APART: Final[Json] = {
    "description": f"of the targets, who stands apart; for the shapes {', '.join(APART)}",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "labels": {"type": "object", "default": {}, "description": "labels that those apart have"},
        "pick": {
            "type": ["string", "integer"],
            "description": 'how many of them, as in targets: one, all, minority, majority, 3, "30%"',
        },
        "seed": {"type": "integer", "description": "for the pick; the run's own if left out"},
        "where": {"type": "object", "description": "a probe, {kind, spec}: those on which it succeeds then"},
    },
}

# Fields that the controller takes out of a spec before agents see it, by kind: name -> (schema, what it stands for).
BY_CONTROLLER: Final[dict[str, dict[str, tuple[Json, str]]]] = {
    kind: {"shape": (_SHAPE, "peers"), "apart": (_APART, "peers")} for kind in SHAPED
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a spec. *name* has dots where a field holds fields of its own."""

    name: str
    type: str
    default: str  # as JSON; empty where *required*
    description: str
    required: bool


@cache
def catalogue() -> Mapping[str, Json]:
    """The entries `{kind, undo, page, schema}`, by kind."""
    rows = json.loads(PATH.read_text(encoding="utf-8"))
    return {row["kind"]: row for row in sorted(rows, key=lambda row: str(row["kind"]))}


def entry(kind: str) -> Json:
    """The entry of *kind*; SpecError with near matches if there is none."""
    if kind not in catalogue():
        raise SpecError(Problem("fault", f"there is no kind {kind!r}", suggestion(kind, catalogue())))
    return catalogue()[kind]


def suggestion(word: str, known: Iterable[str]) -> str:
    """What may have been meant by *word*; all of *known* where nothing is like it."""
    names = sorted(known)
    tails = [name for name in names if word and word in re.split(r"[._]", name)]
    near = dict.fromkeys([*get_close_matches(word, names, n=3, cutoff=0.6), *tails])
    return f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(names) or 'none'}"


def spec_schema(kind: str) -> Json:
    """The schema of the specs that experiments may give: the fault's own, and what the controller resolves."""
    schema = json.loads(json.dumps(entry(kind)["schema"]))
    assert isinstance(schema, dict)
    resolved(schema, schema)["properties"].update(
        {name: dict(about) for name, (about, _) in BY_CONTROLLER.get(kind, {}).items()}
    )
    return schema


def resolved(about: Json, schema: Json) -> Json:
    """*about*, or what it refers to within *schema*."""
    while "$ref" in about:
        target: Any = schema
        for step in str(about["$ref"]).removeprefix("#/").split("/"):
            target = target[step]
        about = target
    return about


def fields(kind: str) -> list[Field]:
    """The fields of the kind's spec, in the order of the fault."""
    schema = spec_schema(kind)
    return list(_fields(resolved(schema, schema), schema, "", ()))


def _fields(about: Json, schema: Json, prefix: str, seen: tuple[int, ...]) -> Iterator[Field]:
    required = set(about.get("required", ()))
    for name, field in about.get("properties", {}).items():
        needed = name in required
        default = "" if needed or "default" not in field else json.dumps(field["default"], ensure_ascii=False)
        text = str(field.get("description") or resolved(field, schema).get("description") or "")
        yield Field(prefix + name, type_of(field, schema), default, text, needed)
        for one in field.get("anyOf", [field]):
            inner = resolved(one, schema)
            if inner.get("properties") and id(inner) not in seen:
                yield from _fields(inner, schema, f"{prefix}{name}.", (*seen, id(inner)))


def type_of(about: Json, schema: Json) -> str:
    """A field's type and bounds in words: "number > 0, ≤ 60"."""
    about = {**resolved(about, schema), **{k: v for k, v in about.items() if k != "$ref"}}
    if "enum" in about:
        return " | ".join(map(str, about["enum"]))
    if "const" in about:
        return str(about["const"])
    if "anyOf" in about:
        return " | ".join(type_of(one, schema) for one in about["anyOf"])
    if isinstance(found := about.get("type", "any"), list):
        return " | ".join(map(str, found))
    name = str(found)
    name = "mapping" if name == "object" else name
    if name == "array":
        name = f"list of {type_of(about.get('items') or {}, schema)}"
    words = {"exclusiveMinimum": "> ", "minimum": "≥ ", "exclusiveMaximum": "< ", "maximum": "≤ "}
    bounds = [f"{sign}{about[word]:g}" for word, sign in words.items() if word in about]
    return f"{name} {', '.join(bounds)}".strip()
