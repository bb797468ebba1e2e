"""The node owner's policy: what no controller can widen.

Without a policy file every fault is refused: a node opts in, kind by kind. Checked when an effect is planned and
again at the moment of injection.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.faults.base import Effect
from agent.system import proc
from protos.error import Problem, RefusedError, SpecError


class Policy(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The policy file (YAML), field by field."""

    faults: list[str] = []  # kinds opted in; patterns: "network.*"
    longest_s: float = 300.0  # of any fault
    effects_max: int = 20  # in force at once
    protected_addresses: list[str] = []  # never cut off, beside the controller's own
    protect_controller: bool = True
    protected_processes: list[str] = msgspec.field(  # by name, patterns
        default_factory=lambda: ["systemd", "init", "sshd", "supervisord", "blackstart-*"]
    )
    commands: list[list[str]] = []  # argument vectors (patterns) that `command` probes and workloads may run

    def check(self, effect: Effect, duration_s: float, controller: Sequence[str]) -> None:
        """RefusedError with the rule and what it protects, if the policy forbids *effect*.

        Args:
            effect: as planned.
            duration_s: how long it is to last, seconds.
            controller: addresses of the controller as the agent has resolved them.
        """
        if not any(fnmatch.fnmatchcase(effect.fault, pattern) for pattern in self.faults):
            opted = ", ".join(self.faults) or "none"
            raise RefusedError(f"the node's policy does not opt in to {effect.fault} (it does to: {opted})")
        if duration_s > self.longest_s:
            raise RefusedError(f"{duration_s:g} s is longer than the node's policy allows ({self.longest_s:g} s)")
        for row in effect.facts.get("targets", []):
            self._check_process(msgspec.convert(row, proc.Identity))
        self._check_addresses(effect.facts, controller)

    def _check_process(self, one: proc.Identity) -> None:
        ancestors = _ancestors(os.getpid())
        if one.pid == 1 or one.pid in ancestors:
            raise RefusedError(f"process {one.name} (pid {one.pid}) is protected: the agent itself, or above it")
        if not proc.command_line(one.pid) and proc.alive(one):
            raise RefusedError(f"process {one.name} (pid {one.pid}) is protected: a kernel thread")
        for pattern in self.protected_processes:
            if fnmatch.fnmatchcase(one.name, pattern):
                raise RefusedError(f"process {one.name} (pid {one.pid}) is protected by the node's policy ({pattern})")

    def _check_addresses(self, facts: dict[str, Any], controller: Sequence[str]) -> None:
        guarded = [*self.protected_addresses, *(controller if self.protect_controller else ())]
        for peer in facts.get("peers", []):
            cut = ipaddress.ip_network(peer)
            for protected in guarded:
                kept = ipaddress.ip_network(protected)
                if cut.version == kept.version and cut.overlaps(kept):
                    whose = "is the controller's" if protected in controller else "is protected by the node's policy"
                    raise RefusedError(f"{peer} would cut off {protected}, which {whose}")

    def allows_command(self, arguments: Sequence[str]) -> bool:
        """Whether *arguments* match a listed vector, element by element; a last "*" stands for any rest."""
        return any(_matches(arguments, vector) for vector in self.commands)


def _matches(arguments: Sequence[str], vector: list[str]) -> bool:
    if vector and vector[-1] == "*" and len(arguments) >= len(vector) - 1:
        vector, arguments = vector[:-1], arguments[: len(vector) - 1]
    return len(vector) == len(arguments) and all(map(fnmatch.fnmatchcase, arguments, vector))


def _ancestors(pid: int) -> set[int]:
    found = set[int]()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = proc.stat(pid)
        pid = stat.parent if stat else 0
    return found


def load(path: Path | None) -> Policy:
    """The policy in *path*; the one that refuses every fault for None. SpecError says what is wrong in the file."""
    if path is None:
        return Policy()
    import yaml  # late: 3 MB that an agent at rest need not hold twice

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(document or {}, Policy)
    except OSError as error:
        raise SpecError(Problem(str(path), f"cannot read the policy: {error.strerror}")) from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise SpecError(Problem(str(path), f"not a policy: {error}")) from error
