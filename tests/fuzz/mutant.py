"""Bugs to plant, which a fuzzer must find; and what keeps its examples from reaching out of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from agent import journal, policy
from agent.faults.base import Effect
from agent.probes import registry as probes
from protos.error import RefusedError


def _plant_checksum() -> None:
    """A journal that takes lines whose checksum does not fit."""

    def decode(line: bytes) -> journal.Record | None:
        try:
            return msgspec.json.decode(line[9:], type=journal.Record)
        except (ValueError, RecursionError):
            return None

    journal._decode = decode


def _plant_opt_in() -> None:
    """A policy that lets a kind through when another of its family is named."""
    check = policy.Policy.check

    def lax(self: policy.Policy, effect: Effect, duration_s: float, controller: Any) -> None:
        families = {pattern.partition(".")[0] for pattern in self.faults}
        if effect.fault.partition(".")[0] not in families or effect.touches.processes or duration_s > self.longest_s:
            check(self, effect, duration_s, controller)

    policy.Policy.check = lax  # type: ignore[method-assign]


MUTANTS: Final[dict[str, Callable[[], None]]] = {"checksum": _plant_checksum, "opt-in": _plant_opt_in}


def isolate() -> None:
    """Probes are built, so that their specs are judged, and never start."""
    build = probes.build

    def refuse(*arguments: Any) -> Any:
        build(*arguments)
        raise RefusedError("not while fuzzing")

    probes.build = refuse
