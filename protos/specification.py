"""A fault's spec, as an experiment gives it, against the schema in the catalogue: before anything is started.

Invariant: what a variable (`${name}`) may still become is not judged; everything else that the agent would refuse for
its type, its bounds or its name is found here, all at once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from protos.catalogue import BY_CONTROLLER, SHAPED, catalogue, resolved, spec_schema, suggestion, type_of
from protos.error import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import ValidationError

Json = dict[str, Any]
_VARIABLE: Final = re.compile(r"\$\{[^}]+\}")
_KINDS: Final = {
    "string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "array": "a list", "object": "a mapping", "null": "null",
}  # fmt: skip
_BOUNDS: Final = {
    "minimum": "below {}, the least", "exclusiveMinimum": "not above {}", "maximum": "above {}, the most",
    "exclusiveMaximum": "not below {}", "minLength": "shorter than {}", "maxLength": "longer than {}",
    "minItems": "a list of fewer than {}", "maxItems": "a list of more than {}",
}  # fmt: skip


def check_spec(kind: str, spec: object, where: str = "spec") -> list[Problem]:
    """What is wrong with *spec* for a fault of *kind*; nothing for a kind that the catalogue does not have."""
    if kind not in catalogue() or _open(spec):
        return []
    from jsonschema import Draft202012Validator

    schema = spec_schema(kind)
    found = [
        problem
        for error in Draft202012Validator(schema).iter_errors({} if spec is None else spec)
        for real in _real(error)
        for problem in _problems(kind, real, schema, where)
    ]
    for name, (_, stands_for) in BY_CONTROLLER.get(kind, {}).items():
        if isinstance(spec, dict) and name in spec and spec.get(stands_for):
            found.append(Problem(f"{where}.{name}", f"stands beside {stands_for}", "give one of the two"))
    if isinstance(spec, dict) and "apart" in spec and "shape" not in spec and kind in SHAPED:
        found.append(Problem(f"{where}.apart", "stands without a shape", "write shape: isolate beside it"))
    return sorted(dict.fromkeys(found), key=lambda problem: problem.where)


def _open(value: object) -> bool:
    """Whether *value* depends on a variable."""
    if isinstance(value, list):
        return any(_open(one) for one in value)
    return isinstance(value, str) and bool(_VARIABLE.search(value))


def _real(error: ValidationError) -> list[ValidationError]:
    """The errors that stay whatever the variables become; of alternatives, those of the nearest."""
    if _open(error.instance):
        return []
    if not error.context:
        return [error]
    branches: dict[object, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    left = [[real for inner in branch for real in _real(inner)] for branch in branches.values()]
    if not all(left):
        return []
    fitting = [branch for branch in left if all(len(one.path) or one.validator != "type" for one in branch)]
    return min(fitting, key=len) if fitting else [error]


def _problems(kind: str, error: ValidationError, schema: Json, where: str) -> Iterator[Problem]:
    path = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    about, value = error.schema, error.instance
    assert isinstance(about, dict)
    names = set(value) if isinstance(value, dict) else set()
    match error.validator:
        case "additionalProperties":
            known = list(about.get("properties", {}))
            for name in sorted(names - set(known), key=str):
                remedy = suggestion(str(name), known)
                yield Problem(f"{path}.{name}", f"{kind} has no such field", remedy)
        case "required":
            for name in sorted(set(about.get("required", ())) - names):
                text = str(about.get("properties", {}).get(name, {}).get("description", ""))
                if f"'{name}'" in error.message:
                    yield Problem(f"{path}.{name}", f"is missing: {kind} needs it", text)
        case "type" | "anyOf" | "oneOf":
            remedy = (
                str(about.get("description", "")) if error.absolute_path else f"it takes {', '.join(_names(schema))}"
            )
            yield Problem(path, f"{_shown(value)} is not {_wanted(about, schema)}", remedy)
        case "enum" | "const":
            allowed = about.get("enum", [about.get("const")])
            yield Problem(path, f"{_shown(value)} is not known here", suggestion(str(value), map(str, allowed)))
        case validator if validator in _BOUNDS:
            limit = error.validator_value
            what = f"{_shown(value)} is {_BOUNDS[str(validator)].format(f'{limit:g}')}"
            yield Problem(path, what, f"it takes {type_of(about, schema)}")
        case "pattern":
            yield Problem(path, f"{_shown(value)} has not the form that is wanted", str(about.get("description", "")))
        case _:
            yield Problem(path, error.message)


def _wanted(about: Json, schema: Json) -> str:
    names: list[str] = []
    for one in about.get("anyOf") or about.get("oneOf") or [about]:
        found = resolved(one, schema).get("type", "any")
        names += [_KINDS.get(name, str(name)) for name in (found if isinstance(found, list) else [found])]
    return " or ".join(dict.fromkeys(names))


def _names(schema: Json) -> list[str]:
    return list(resolved(schema, schema).get("properties", {})) or ["no fields"]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
