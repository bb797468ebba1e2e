"""Tolerances of hypotheses: which of them the engine would get wrong. Pure.

An exception in a tolerance check escapes the engine and with it every rollback; a float compares unequal to itself in
all but the luckiest case. So a number is held against a range, and nothing that can raise is let through.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from protos import reference
from protos.error import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
RANGE: Final = "write {type: range, range: [0.99, 1.0]}"
TARGET: Final = "name the entry to look at: {type: range, target: value_s, range: [0, 60]}"
_NUMBERS: Final = ("observe", "steady")  # functions that answer a number


def check_tolerance(probe: Json, path: str, *, external: bool) -> Iterator[Problem]:
    """The problems of one hypothesis probe's tolerance."""
    where = f"{path}.tolerance"
    if "tolerance" not in probe:
        yield Problem(where, "is missing", RANGE)
        return
    tolerance = probe["tolerance"]
    provider = probe.get("provider") if isinstance(probe.get("provider"), dict) else {}
    assert isinstance(provider, dict)
    ours = provider.get("module") == reference.MODULE
    number = ours and provider.get("func") in _NUMBERS
    if ours and not number and isinstance(tolerance, list | dict) and not _targeted(tolerance):
        yield Problem(where, "the probe answers a mapping, which raises here, and all rollbacks are lost", TARGET)
        return
    if isinstance(tolerance, float):
        yield Problem(where, f"a float such as {tolerance} matches only itself", RANGE)
    elif isinstance(tolerance, dict):
        yield from _mapping(tolerance, where, number=number, external=external)
    elif isinstance(tolerance, list):
        yield from _list(tolerance, where, number=number)
    elif number:
        yield Problem(where, f"{tolerance!r} is compared with a measured number", RANGE)
    elif not isinstance(tolerance, bool | int | str):
        yield Problem(where, f"{tolerance!r} is no tolerance", RANGE)


def _mapping(tolerance: Json, where: str, *, number: bool, external: bool) -> Iterator[Problem]:
    kind = tolerance.get("type")
    if kind == "range":
        yield from _range(tolerance.get("range"), f"{where}.range", target=tolerance.get("target"), number=number)
    elif kind in ("regex", "jsonpath") and number:
        yield Problem(where, f"a {kind} raises on a number, and with it all rollbacks are lost", RANGE)
    elif kind == "regex":
        try:
            re.compile(str(tolerance.get("pattern")))
        except re.error as error:
            yield Problem(f"{where}.pattern", f"is no regular expression: {error}")
    elif kind == "probe" and not external:
        yield Problem(where, "a probe as tolerance can raise, and with it all rollbacks are lost", RANGE)
    elif kind not in ("jsonpath", "probe"):
        yield Problem(f"{where}.type", f"{kind!r} is no kind of tolerance", RANGE)


def _range(bounds: object, where: str, *, target: object, number: bool) -> Iterator[Problem]:
    numbers = isinstance(bounds, list) and len(bounds) == 2 and all(_is_number(bound) for bound in bounds)
    if not numbers:
        yield Problem(where, "is not a pair of numbers", RANGE)
    elif isinstance(bounds, list) and bounds[0] > bounds[1]:
        yield Problem(where, f"{bounds[0]} is above {bounds[1]}: nothing lies in it", "swap them")
    if target and number:
        yield Problem(where, "a target is looked up in a mapping, and the probe answers a number", "leave it out")


def _list(tolerance: list[Any], where: str, *, number: bool) -> Iterator[Problem]:
    """Two entries are a range that raises on another type; otherwise a set of values, which no float is ever in."""
    if len(tolerance) == 2 and all(_is_number(bound) for bound in tolerance):
        if not number:
            yield Problem(where, "a pair raises when the probe answers no number, and all rollbacks are lost", RANGE)
        return
    if number or any(isinstance(value, float) for value in tolerance):
        yield Problem(where, "a measured number is never equal to one of a list", RANGE)
    elif len(tolerance) == 2:
        yield Problem(where, "two entries are taken as bounds and raise on another type", "add a third, or use a regex")


def _targeted(tolerance: list[Any] | Json) -> bool:
    return isinstance(tolerance, dict) and (bool(tolerance.get("target")) or tolerance.get("type") == "jsonpath")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
