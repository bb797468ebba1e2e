"""The node owner's policy: what no controller can widen.

Without a policy file every fault is refused: a node opts in, kind by kind. Checked when an effect is planned and
again at the moment of injection. Invariant: what is protected is protected under each of its names (an address in a
network, a path through links and mounts, a process by one of its threads), and what cannot be judged is refused.
"""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent import shelter
from agent.faults.base import Effect, Touched
from agent.system import proc
from protos.error import Problem, RefusedError, SpecError

LONGEST_S_MAX: Final = 7 * 86_400.0


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
    namespaces: list[str] = msgspec.field(default_factory=lambda: ["*"])  # of Kubernetes, in which faults may act
    protected_namespaces: list[str] = msgspec.field(  # and in which they may not all the same
        default_factory=lambda: ["kube-system", "kube-public", "kube-node-lease", "blackstart*"]
    )
    nodes: list[str] = msgspec.field(default_factory=lambda: ["*"])  # of Kubernetes, on which faults may act
    kubelets: list[str] = msgspec.field(  # names of processes that faults may take for this node's kubelet
        default_factory=lambda: ["kubelet", "k3s", "k3s-agent", "k3s-server", "kubelite"]
    )
    respect_pdb: bool = True  # whether evictions, deletions, scaling and taints that break a budget are refused
    ramp_namespaces: list[str] = []  # in which `kube.ramp` may make pods; patterns
    ramp_pods_max: int = 10_000  # of one ramp
    ramp_images: list[str] = msgspec.field(default_factory=lambda: ["nothing.invalid/none"])  # of its pods; patterns
    encode_inputs: list[str] = []  # files and folders that `encode` may read, by what they lead to; patterns
    encode_jobs_max: int = 64  # at a time
    ramp_real_nodes: bool = False  # whether its pods may come to nodes that are not played
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
        if not 0 <= duration_s <= self.longest_s:
            raise RefusedError(f"{duration_s:g} s is longer than the node's policy allows ({self.longest_s:g} s)")
        touches = effect.touches
        if touches.processes:
            self._check_processes(touches.processes)
        self._check_addresses(touches.addresses, controller)
        self._check_addresses(touches.elsewhere, ())
        for path in touches.paths:
            if kept := shelter.stands_on(path, ("/",)) or shelter.overlaps(
                path, (*self.protected_paths, *self.own_paths)
            ):
                raise RefusedError(f"{path} is protected by the node's policy ({kept})")
        self._check_rest(touches)

    def _check_processes(self, processes: Sequence[proc.Identity]) -> None:
        above = {1, os.getpid(), *shelter.ancestors(os.getpid())}
        for one in processes:
            named = f"process {one.name} (pid {one.pid}) is protected"
            if one.pid in above:
                raise RefusedError(f"{named}: the agent itself, or above it")
            if why := shelter.process(one):
                raise RefusedError(f"{named}: {why}")
            for pattern in self.protected_processes:
                if any(fnmatch.fnmatchcase(name, pattern) for name in (one.name, _program(one.pid))):
                    raise RefusedError(f"{named} by the node's policy ({pattern})")

    def _check_addresses(self, addresses: Sequence[str], controller: Sequence[str]) -> None:
        guarded = [*self.protected_addresses, *(controller if self.protect_controller else ())]
        for peer in addresses:
            for protected in guarded:
                if shelter.cuts(peer, protected):
                    whose = "is the controller's" if protected in controller else "is protected by the node's policy"
                    raise RefusedError(f"{peer} would cut off {protected}, which {whose}")

    def _check_rest(self, touches: Touched) -> None:
        for port in touches.ports:
            if port in self.protected_ports:
                raise RefusedError(f"port {port} is protected by the node's policy")
        for mount in touches.mounts:
            if shelter.stands_on(mount, self.protected_mounts) or shelter.shares_disk(mount, self.protected_mounts):
                raise RefusedError(f"what is mounted on {mount} is protected by the node's policy")
        for name in touches.containers:
            for pattern in self.protected_containers:
                if fnmatch.fnmatchcase(name, pattern):
                    raise RefusedError(f"container {name} is protected by the node's policy ({pattern})")
        self._check_cluster(touches)

    def _check_cluster(self, touches: Touched) -> None:
        for space in touches.namespaces:
            if not any(fnmatch.fnmatchcase(space, pattern) for pattern in self.namespaces):
                allowed = ", ".join(self.namespaces) or "none"
                raise RefusedError(f"namespace {space} is not among those that the node's policy names ({allowed})")
            for pattern in self.protected_namespaces:
                if fnmatch.fnmatchcase(space, pattern):
                    raise RefusedError(f"namespace {space} is protected by the node's policy ({pattern})")
        for program in touches.kubelets:
            if program not in self.kubelets:
                allowed = ", ".join(self.kubelets) or "none"
                raise RefusedError(f"{program} is no kubelet by the node's policy (`kubelets`: {allowed})")
        for node in touches.nodes:
            if not any(fnmatch.fnmatchcase(node, pattern) for pattern in self.nodes):
                allowed = ", ".join(self.nodes) or "none"
                raise RefusedError(f"node {node} is not among those that the node's policy names ({allowed})")
        if touches.budgets and self.respect_pdb:
            raise RefusedError(f"the node's policy respects PodDisruptionBudgets: {'; '.join(touches.budgets)}")

    def allows_command(self, arguments: Sequence[str]) -> bool:
        """Whether *arguments* match a listed vector, element by element; a last "*" stands for any rest."""
        if any("\0" in word for word in arguments):
            return False  # no program can be given such a word
        return any(_matches(arguments, vector) for vector in self.commands)


def _program(pid: int) -> str:
    """Name of the program's file by the command line: the kernel's own name ends after 15 characters."""
    return proc.command_line(pid).split(" ", 1)[0].rpartition("/")[2]


def _matches(arguments: Sequence[str], vector: list[str]) -> bool:
    if vector and vector[-1] == "*" and len(arguments) >= len(vector) - 1:
        vector, arguments = vector[:-1], arguments[: len(vector) - 1]
    return len(vector) == len(arguments) and all(map(_fits, arguments, vector))


def _fits(word: str, pattern: str) -> bool:
    """As the shell's patterns; yet `..` only where it is written out, since it leads out of any directory."""
    if word == pattern:
        return True
    return ".." not in word.split("/") and fnmatch.fnmatchcase(word, pattern)


def load(path: Path | None, own_paths: Sequence[str] = ()) -> Policy:
    """The policy in *path*; the one that refuses every fault for None. SpecError says what is wrong in the file.

    Args:
        path: of the file.
        own_paths: where the agent keeps what it cannot do without.
    """
    policy = Policy() if path is None else _read(path)
    policy.own_paths = [*policy.own_paths, *own_paths]
    return policy


def _read(path: Path) -> Policy:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(Problem(str(path), f"cannot read the policy: {error.strerror}")) from error
    except ValueError as error:
        raise SpecError(Problem(str(path), f"not a policy: {error}")) from error
    return parse(text, str(path))


def parse(text: str, where: str) -> Policy:
    """The policy that *text* is; SpecError with everything that is wrong with its values."""
    import yaml  # late: 3 MB that an agent at rest need not hold twice

    try:
        policy = msgspec.convert(yaml.safe_load(text) or {}, Policy)
    except RecursionError as error:
        raise SpecError(Problem(where, "not a policy: nested without end")) from error
    except Exception as error:  # PyYAML lets many kinds through: ValueError of a date, TypeError, KeyError, …
        raise SpecError(Problem(where, f"not a policy: {error}")) from error
    if problems := [Problem(where, f"not a policy: {what}") for what in _wrong(policy)]:
        raise SpecError(*problems)
    return policy


def _wrong(policy: Policy) -> list[str]:
    """What the types do not say."""
    found = []
    if not (math.isfinite(policy.longest_s) and 0 < policy.longest_s <= LONGEST_S_MAX):
        found.append(f"longest_s: {policy.longest_s:g} is not above 0 and at most {LONGEST_S_MAX:g} seconds")
    if policy.effects_max < 0:
        found.append(f"effects_max: {policy.effects_max} is below 0")
    found += [
        f"protected_addresses: {one!r} is no address or network"
        for one in policy.protected_addresses if not shelter.is_network(one)
    ]  # fmt: skip
    found += [f"protected_ports: {one} is no port" for one in policy.protected_ports if not 0 < one < 2**16]
    for name in ("protected_paths", "protected_mounts", "own_paths"):
        paths: list[str] = getattr(policy, name)
        found += [f"{name}: {one!r} is no absolute path" for one in paths if not one.startswith("/") or "\0" in one]
    return found
