"""A set of test services on hosts of their own, each with an agent, and a controller: for trials of recovery.

Hosts are Linux namespaces of this process (`namespace`), so that nothing of it outlives this process. A host that loses
its power (its pid 1 is killed) is away for a while and then comes back with its files, as a machine does.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from blackstart.local import mounts
from blackstart.local.cluster import bed as cluster_bed
from blackstart.local.member import Member
from blackstart.local.namespace import Host, Testbed
from blackstart.local.service_file import ServicePart, ServiceSet, rendered
from blackstart.local.stack import Stack
from protos.error import BlackstartError, RefusedError

if TYPE_CHECKING:
    from types import TracebackType

CONTROLLER: Final = "10.77.0.254:7443"
RACK: Final = "rack"  # the agent outside of the hosts, which can cut their power and their cables
OWN: Final = "/srv"  # where each host finds its folder
_LOOK_S: Final = 0.05
_CONTROLLER: Final = {"BLACKSTART_CONTROLLER_BUDGET__TARGETS_FRACTION": "1.0"}  # of five hosts, all may be broken
_POLICY: Final = """# The policy of an agent among test services: they are there to be broken.
faults: ["*"]
longest_s: 900
commands: [["*"]]
"""


@dataclass
class ServiceBed:
    """The set, running. *state*: where all files are; *say* hears one line a step."""

    described: ServiceSet
    state: Path
    say: Callable[[str], None] = lambda _line: None
    agents: bool = True
    cluster: cluster_bed.ClusterBed | None = None
    _down: dict[str, float] = field(default_factory=dict)  # host -> when it was seen to be off
    _members: dict[tuple[str, str], Member] = field(default_factory=dict)  # (host, service)
    _ended: dict[tuple[str, str], float] = field(default_factory=dict)  # since when a service was seen not to run

    def __post_init__(self) -> None:
        if lacks := self.described.missing():
            raise RefusedError(f"{self.described.title}: install {', '.join(lacks)}")
        self.state = self.state.absolute()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as held:  # what was started goes again where the rest does not start
            self._held = held
            self._start()
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in reversed(self._members.values()):
            member.process.kill()
        self._held.close()

    def folder(self, host: str) -> Path:
        """Where the files of *host* are: kept over its reboots."""
        return self.state / "hosts" / host

    def host(self, name: str) -> Host:
        return self.bed.hosts[name]

    def address(self, host: str) -> str:
        return self.bed.hosts[host].address

    def pids(self, host: str, service: str) -> int:
        """Pid of a service's first process, outside of its host."""
        return self._members[host, service].process.pid

    def boot(self, name: str) -> None:
        """Brings a host back that lost its power, with its files, its services and its agent."""
        self.bed.add(name)
        self._prepare(name)
        if self.cluster is not None and name in self.cluster.nodes.nodes:
            self.cluster.nodes.reboot(self.bed.hosts[name])
        for service in self.described.services:
            if name in service.hosts:
                self._spawn(service, name)
        if self.agents and self.described.hosts[name].agent:
            self._agent(name)
        self._down.pop(name, None)

    def ready(self, timeout_s: float) -> bool:
        """Whether every service is ready, or gets so in time: after a trial, before the next one."""
        checks = [(service, name) for service in self.described.services if service.ready for name in service.hosts]
        until = time.monotonic() + timeout_s
        whole = self.cluster is None
        while (checks or not whole) and time.monotonic() < until:
            checks = [(service, name) for service, name in checks if not self._is_ready(service, name)]
            whole = self.cluster is None or self.cluster.ready()
            time.sleep(_LOOK_S)
        return whole and not checks

    def _is_ready(self, service: ServicePart, name: str) -> bool:
        check = ["timeout", "3", "sh", "-c", rendered(service.ready, self._values(name))]
        return not self.bed.hosts[name].off and not self.bed.hosts[name].run(check).returncode

    def watch(self, now_s: float) -> None:
        """Boots hosts whose power went `reboot_s` ago; to be called now and then."""
        for name, host in self.bed.hosts.items():
            if not host.off and host.ended():
                host.power_off()
                self._down[name] = now_s
                self.say(f"{name} lost its power; back in {self.described.reboot_s:g} s")
        for service in self.described.services:
            for name in service.hosts if service.restart_s is not None else ():
                self._supervise(service, name, now_s)
        for name, since_s in list(self._down.items()):
            if now_s - since_s >= self.described.reboot_s:
                self.boot(name)
                self.say(f"{name} is back")

    def _supervise(self, service: ServicePart, name: str, now_s: float) -> None:
        """Starts what ended by itself again, as a node's service manager does."""
        key = (name, service.name)
        if self.bed.hosts[name].off or self._members[key].running():
            self._ended.pop(key, None)
        elif now_s - self._ended.setdefault(key, now_s) >= (service.restart_s or 0.0):
            self._spawn(service, name)
            self._ended.pop(key)
            self.say(f"{service.name} on {name} had ended, and is started again")

    def _start(self) -> None:
        names = list(self.described.hosts)
        self.say(f"starting {len(names)} hosts")
        self.bed = self._held.enter_context(Testbed(names))
        for name in names:
            self._prepare(name)
        for service in self.described.services:
            begun = time.monotonic()
            for name in service.hosts:
                self._spawn(service, name)
            for name in service.hosts:
                self._await(service, name)
            self.say(f"{service.name} serves on {', '.join(service.hosts)} after {time.monotonic() - begun:.1f} s")
        if self.described.cluster is not None:
            self._start_cluster(self.described.cluster)
        if self.agents:
            variables = {"BLACKSTART_VAR_SERVICES": str(self.state), **_CONTROLLER}  # for experiments
            reach = cluster_bed.environment(self.state)
            self.stack = self._held.enter_context(Stack(self.state, variables, agent_env=reach))
            self.stack.controller(CONTROLLER)
            for name, part in self.described.hosts.items():
                if part.agent:
                    self._agent(name)
            self._agent(RACK)
            self.stack.await_agents(1 + sum(part.agent for part in self.described.hosts.values()))
            self.say("controller and agents are up")

    def _start_cluster(self, part: cluster_bed.ClusterPart) -> None:
        values = {**self.described.variables, "hosts": self._addresses()}
        filled = part.filled(lambda text: rendered(text, values))
        made = cluster_bed.ClusterBed(filled, self.bed, self.state, self.say)
        self.cluster = self._held.enter_context(made)

    def _agent(self, name: str) -> None:
        folder = self.stack.state / f"agent-{name}"
        folder.mkdir(exist_ok=True, mode=0o700)
        (folder / "policy.yaml").write_text(_POLICY, encoding="utf-8")
        known = f"agent {name}"
        for member in [member for member in self.stack.members if member.name == known]:
            member.stop()
            self.stack.members.remove(member)
        if name == RACK:
            self.stack.agent(name, {"role": RACK})
        else:
            self.stack.agent(name, {"host": name, **self.described.hosts[name].labels}, self.bed.hosts[name])

    def _addresses(self) -> dict[str, str]:
        return {one: host.address for one, host in self.bed.hosts.items()}

    def _values(self, name: str) -> dict[str, Any]:
        hosts = self._addresses()
        own = {"host": name, "address": hosts[name], "dir": OWN, "hosts": hosts}
        return {**self.described.variables, **own}

    def _prepare(self, name: str) -> None:
        """The host's own /etc/hosts and /run, and its folder with its files at /srv."""
        folder, part = self.folder(name), self.described.hosts[name]
        folder.mkdir(parents=True, exist_ok=True)
        script = mounts.own(self.state, name, self._addresses(), self.described.resolver)
        if part.disk_mb:
            script += mounts.disk(self.state / f"disk-{name}.img", folder, part.disk_mb)
        script += mounts.at(folder, OWN)
        self._run(name, script)
        folder.chmod(0o777)
        for file in self.described.files:
            if name in file.hosts:
                content = rendered(file.content, self._values(name))
                self._write(name, Path(OWN, file.name), content, file.mode)
        (folder / "init.pid").write_text(f"{self.bed.hosts[name].pid}\n", encoding="ascii")

    def _write(self, name: str, path: Path, content: str, mode: str) -> None:
        """By a process of the host: its folder may be a file system that only the host sees."""
        place = shlex.quote(str(path))
        self._run(name, f"cat > {place} <<'END OF FILE'\n{content}\nEND OF FILE\nchmod {mode} {place}")

    def _run(self, name: str, script: str) -> None:
        done = self.bed.hosts[name].run(["sh", "-c", script])
        if done.returncode:
            raise BlackstartError(f"host {name}: {done.stderr.strip() or script}")

    def _spawn(self, service: ServicePart, name: str) -> None:
        logs = self.state / "log"
        logs.mkdir(exist_ok=True)
        command = ["sh", "-c", rendered(service.command, self._values(name))]
        self._members[name, service.name] = Member(
            f"{service.name} on {name}", command, log=logs / f"{name}-{service.name}.log", host=self.bed.hosts[name]
        )

    def _await(self, service: ServicePart, name: str) -> None:
        if not service.ready:
            return
        member, check = self._members[name, service.name], rendered(service.ready, self._values(name))
        until = time.monotonic() + service.ready_s
        while self.bed.hosts[name].run(["sh", "-c", check], timeout_s=service.ready_s).returncode:
            if not member.running() or time.monotonic() > until:
                raise member.failure()
            time.sleep(_LOOK_S)
