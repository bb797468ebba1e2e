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

import msgspec

from agent.faults.base import Effect, Touched
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
    protected_ports: list[int] = msgspec.field(  # of this node: spared by cuts, refused to faults on ports
        default_factory=lambda: [22]
    )
    protected_paths: list[str] = msgspec.field(  # directories that no `file.*` fault may stand on, above or below
        default_factory=lambda: ["/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/usr"]
    )
    protected_mounts: list[str] = []  # mount points that no fault may fill or slow down
    protected_containers: list[str] = msgspec.field(default_factory=lambda: ["blackstart-*"])  # by name, patterns
    own_paths: list[str] = []  # set by the agent: where it keeps its own files
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
        touches = effect.touches
        for one in touches.processes:
            self._check_process(one)
        self._check_addresses(touches.addresses, controller)
        for path in touches.paths:
            self._check_path(path)
        self._check_rest(touches)

    def _check_process(self, one: proc.Identity) -> None:
        ancestors = _ancestors(os.getpid())
        if one.pid == 1 or one.pid in ancestors:
            raise RefusedError(f"process {one.name} (pid {one.pid}) is protected: the agent itself, or above it")
        if not proc.command_line(one.pid) and proc.alive(one):
            raise RefusedError(f"process {one.name} (pid {one.pid}) is protected: a kernel thread")
        for pattern in self.protected_processes:
            if fnmatch.fnmatchcase(one.name, pattern):
                raise RefusedError(f"process {one.name} (pid {one.pid}) is protected by the node's policy ({pattern})")

    def _check_addresses(self, addresses: Sequence[str], controller: Sequence[str]) -> None:
        guarded = [*self.protected_addresses, *(controller if self.protect_controller else ())]
        for peer in addresses:
            cut = ipaddress.ip_network(peer)
            for protected in guarded:
                kept = ipaddress.ip_network(protected)
                if cut.version == kept.version and cut.overlaps(kept):
                    whose = "is the controller's" if protected in controller else "is protected by the node's policy"
                    raise RefusedError(f"{peer} would cut off {protected}, which {whose}")

    def _check_path(self, path: str) -> None:
        asked = Path(path)
        if asked == Path("/"):
            raise RefusedError("/ is protected: everything stands on it")
        for kept in map(Path, (*self.protected_paths, *self.own_paths)):
            if asked == kept or kept in asked.parents or asked in kept.parents:
                raise RefusedError(f"{path} is protected by the node's policy ({kept})")

    def _check_rest(self, touches: Touched) -> None:
        for port in touches.ports:
            if port in self.protected_ports:
                raise RefusedError(f"port {port} is protected by the node's policy")
        for mount in touches.mounts:
            if mount in self.protected_mounts:
                raise RefusedError(f"what is mounted on {mount} is protected by the node's policy")
        for name in touches.containers:
            for pattern in self.protected_containers:
                if fnmatch.fnmatchcase(name, pattern):
                    raise RefusedError(f"container {name} is protected by the node's policy ({pattern})")

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
