"""The driver functions as experiment files may call them: arguments, types, and which must be given.

Invariant: agrees with docs/architecture.md, "Driver functions"; a test holds it against `blackstart.chaos` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from protos import reference

TEXT, NUMBER, MAPPING, FLAG, OBJECT = "text", "a number", "a mapping", "true or false", "anything"


@dataclass(frozen=True, slots=True)
class Argument:
    """*required*: without a default."""

    kind: str
    required: bool = False


_PROBE: Final = {
    "name": Argument(TEXT, required=True), "kind": Argument(TEXT, required=True),
    "targets": Argument(MAPPING, required=True), "spec": Argument(MAPPING, required=True),
    "interval_ms": Argument(NUMBER), "timeout_ms": Argument(NUMBER), "stable_s": Argument(NUMBER),
    "p99_max_ms": Argument(NUMBER),
}  # fmt: skip
FUNCTIONS: Final[dict[str, dict[str, Argument]]] = {
    "start_probe": _PROBE,
    "steady": _PROBE | {"measure": Argument(TEXT), "window_s": Argument(NUMBER)},
    "observe": {
        "probe": Argument(TEXT, required=True), "measure": Argument(TEXT), "window_s": Argument(NUMBER),
    },
    "inject": {
        "fault": Argument(TEXT, required=True), "targets": Argument(MAPPING, required=True), "spec": Argument(MAPPING),
        "duration_s": Argument(NUMBER), "on_lost_controller": Argument(TEXT), "name": Argument(TEXT),
        "follow": Argument(FLAG),
    },
    "revert": {"name": Argument(TEXT)},
    "recovery": {
        "probe": Argument(TEXT, required=True), "after": Argument(TEXT), "objective": Argument(TEXT),
        "wait_s": Argument(NUMBER),
    },
    "data_loss": {
        "probe": Argument(TEXT, required=True), "objective": Argument(TEXT), "wait_s": Argument(NUMBER),
    },
    "capacity": {
        "probe": Argument(TEXT, required=True), "after": Argument(TEXT), "objective": Argument(TEXT),
        "skip_s": Argument(NUMBER),
    },
    "uptime": {
        "probe": Argument(TEXT, required=True), "objective": Argument(TEXT), "period": Argument(TEXT),
    },
    "phases": {
        "probe": Argument(TEXT, required=True), "events": Argument(OBJECT, required=True),
        "order": Argument(OBJECT, required=True), "after": Argument(TEXT),
    },
    "cascade": {
        "probes": Argument(OBJECT, required=True), "after": Argument(TEXT), "order": Argument(OBJECT),
    },
    "run_workload": {
        "kind": Argument(TEXT, required=True), "targets": Argument(MAPPING, required=True),
        "spec": Argument(MAPPING, required=True),
    },
}  # fmt: skip


def fits(kind: str, value: object) -> bool:
    """Whether *value* may be given; text with a variable in it may become anything."""
    if value is None or kind == OBJECT or (isinstance(value, str) and "${" in value):
        return True
    if kind == NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == FLAG:
        return isinstance(value, bool)
    return isinstance(value, str if kind == TEXT else dict)


def calls(experiment: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """As `reference.calls`, of all driver functions."""
    yield from reference.calls(experiment, FUNCTIONS)
