"""A controller, agents and the reference farm on this machine, as separate processes on embedded defaults.

Invariant: what a stack started is gone when it is closed, and also when this process is killed (`tether`).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from blackstart.client import Client
from blackstart.local.member import Member, wait_for
from blackstart.settings import Settings
from protos.error import Exit, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from blackstart.local.namespace import Host

_READY_S: Final = 40.0
_FARM: Final = Path(__file__).parents[2] / "deploy" / "reference" / "farm.py"
_POLICY: Final = """# The policy of a local agent. See `blackstart-agent doctor`.
faults: ["*"]
longest_s: 300
"""


@dataclass
class Stack:
    """Processes in the order of their start. *state* is made; *env*: what runs see, *agent_env*: what agents see."""

    state: Path
    env: dict[str, str] = field(default_factory=dict)
    agent_env: dict[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    settings: Settings | None = None

    def __post_init__(self) -> None:
        self.state = self.state.absolute()
        try:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise RefusedError(f"state directory {self.state}: {error.strerror}: name another by --state") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def controller(self, listen: str) -> Settings:
        """Starts the controller; where it is and the administrator's certificate, for clients."""
        folder = self.state / "controller"
        enrol = f"{listen.rpartition(':')[0]}:0"
        member = self._start(
            "controller",
            [sys.executable, "-m", "controller", "run", "--state", str(folder), "--listen", listen,
             "--enrol-listen", enrol, *_profile()],
            env=self.env, piped=True,
        )  # fmt: skip
        ready = member.first_line()
        self.settings = Settings(str(ready["address"]), folder / "admin")
        document = {"controller": self.settings.controller, "certs": str(self.settings.certs)}
        (self.state / "client.json").write_text(json.dumps(document), encoding="utf-8")
        return self.settings

    def agent(self, name: str, labels: Mapping[str, str], host: Host | None = None) -> None:
        """Enrols an agent by a one-time token, unless it has a certificate, and starts it."""
        assert self.settings is not None
        folder = self.state / f"agent-{name}"
        folder.mkdir(exist_ok=True, mode=0o700)
        policy = folder / "policy.yaml"
        if not policy.exists():
            policy.write_text(_POLICY, encoding="utf-8")
        common = ["--id", name, "--state", str(folder)]
        if not (folder / "certs").exists():
            self._enrol(name, folder, common, host)
        marked = [text for key, value in labels.items() for text in ("--label", f"{key}={value}")]
        address = self.settings.controller
        self._start(
            f"agent {name}",
            [sys.executable, "-m", "agent", "run", *common, "--controller", address, "--policy", str(policy), *marked],
            host=host,
            env=self.agent_env,
        )

    def _enrol(self, name: str, folder: Path, common: list[str], host: Host | None) -> None:
        with Client(self.settings) as client:
            token = client.join_token(agent_id=name)
        join = folder / "join.json"
        document = {
            "token": token.token, "address": token.address, "enrol_address": token.enrol_address,
            "ca_pem": token.ca_pem.decode(),
        }  # fmt: skip
        join.write_text(json.dumps(document), encoding="utf-8")
        member = self._start(
            f"enrolment {name}", [sys.executable, "-m", "agent", "enrol", str(join), *common], host=host
        )
        member.process.wait(_READY_S)
        if member.process.returncode:
            raise member.failure()
        join.unlink()
        self.members.remove(member)

    def farm(self, address: str, port_base: int, roles: str, host: Host | None = None) -> Member:
        """Starts the reference farm, or the part of it that *roles* names; `await_farm` waits for it."""
        if not _FARM.exists():
            raise RefusedError(
                f"the reference farm is not at {_FARM}: it comes with the source tree, not with the wheel"
            )
        argv = [sys.executable, str(_FARM), "up", "--dir", str(self.state / "farm"), "--host", address,
                "--port-base", str(port_base), "--roles", roles]  # fmt: skip
        return self._start(f"farm ({roles})", argv, host=host)

    def await_farm(self, member: Member, role: str = "") -> None:
        """Returns once the farm, or the *role* that its host runs, serves its first segments."""
        ready = self.state / "farm" / (f"ready-{role}" if role else "ready")
        wait_for(ready.exists, member, _READY_S)

    def await_agents(self, count: int) -> None:
        """Returns once *count* agents are connected."""
        with Client(self.settings) as client:
            wait_for(lambda: sum(agent.connected for agent in client.agents()) >= count, self.members[-1], _READY_S)

    def watch(self) -> None:
        """BlackstartError when a process of the stack has ended by itself."""
        for member in self.members:
            if not member.running():
                raise member.failure()

    def close(self) -> None:
        """Stops everything, the last started first."""
        for member in reversed(self.members):
            member.stop()
        self.members.clear()

    def _start(
        self, name: str, argv: list[str], *, host: Host | None = None, env: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> Member:  # fmt: skip
        logs = self.state / "log"
        logs.mkdir(exist_ok=True)
        log = logs / f"{''.join(c if c.isalnum() else '-' for c in name).strip('-')}.log"
        member = Member(name, argv, log=log, host=host, env=env, piped=piped)
        self.members.append(member)
        return member


def _profile() -> list[str]:
    """The reference fleet's objectives, for runs that bring none."""
    path = Path(__file__).parents[2] / "experiments" / "profiles" / "dailydoco.yaml"
    return ["--profile", str(path)] if path.exists() else []


def fetch_clip() -> None:
    """Gets the farm's input clip into its cache, while there is a network: hosts of a testbed have none.

    Without it the farm makes a clip of its own, and says so.
    """
    if _FARM.exists():
        subprocess.run([sys.executable, str(_FARM), "fetch"], check=False, capture_output=True, timeout=_READY_S)


def farm_variables(state: Path, workers: str, origin: str, port_base: int) -> dict[str, str]:
    """What the quickstart's experiments read from the environment: where the farm is."""
    return {
        "BLACKSTART_FARM": str(state.absolute() / "farm"),
        "BLACKSTART_FARM_ORIGIN": f"{origin}:{port_base}",
        "BLACKSTART_FARM_WORKER_1": f"{workers}:{port_base + 1}",
        "BLACKSTART_FARM_WORKER_2": f"{workers}:{port_base + 2}",
    }


def free_ports(count: int) -> int:
    """The first of *count* consecutive free ports on loopback."""
    for base in range(18600, 60000, 50):
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RefusedError("no free ports on loopback")


def up(*, state: Path, address: str | None, farm: bool) -> int:
    """`blackstart up`: a controller and two agents (and the farm) until Ctrl-C."""
    stopped = threading.Event()
    ports = free_ports(3)
    variables = farm_variables(state, "127.0.0.1", "127.0.0.1", ports) if farm else {}
    with Stack(state, variables) as stack:
        try:
            started = stack.farm("127.0.0.1", ports, "workers,origin") if farm else None
            settings = stack.controller(address or "127.0.0.1:0")
            for role in ("encode", "edge"):
                stack.agent(role, {"role": role, "site": "local"})
            stack.await_agents(2)
            if started:
                stack.await_farm(started)
            print(f"controller {settings.controller}, agents encode and edge, state {stack.state}")
            if farm:
                print(f"farm: http://{variables['BLACKSTART_FARM_ORIGIN']}/ in {variables['BLACKSTART_FARM']}")
            print(
                "in another terminal: `blackstart agents list`, `blackstart run FILE`. Ctrl-C ends it all.", flush=True
            )
            while not stopped.wait(1.0):
                stack.watch()
        except KeyboardInterrupt:
            print("stopping: every effect is reverted first")
        finally:
            if stack.settings is not None:  # else another `up` owns the file
                (stack.state / "client.json").unlink(missing_ok=True)
    return int(Exit.HELD)
