"""Controllers of which a Lease of the test cluster chooses one: real processes, the account's token, one store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from blackstart.client import Client
from blackstart.settings import Settings
from controller.pki import Authority
from protos.credential import write_credential
from tests.contract.server_rig import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blackstart.local.cluster.plane import Plane
    from tests.cluster.conftest import Kubectl

NAMESPACE, NAME = "blackstart", "blackstart-controller"
LEASE_S, RENEW_S, RETRY_S = 6, 4.0, 0.8
START_S = 12.0  # from the lease to the ready line, on a machine that other work shares; 1.3 s on a quiet one
DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"


class Member:
    """One controller; ended with the fleet."""

    def __init__(self, fleet: Fleet, name: str, host: str, store_url: str, state: Path) -> None:
        self.name, self.state, self._lines = name, state, []
        self.address, self.alive, self.log = f"{host}:{fleet.port}", fleet.folder / f"{name}.alive", fleet.folder / name
        ca = state / "pki" / "ca"
        if not ca.exists():  # as the pod's init container copies it
            shutil.copytree(fleet.folder / "ca", ca)
        prefix = "BLACKSTART_CONTROLLER_"
        settings = {
            "KUBERNETES__AGENTS": "blackstart-agents/blackstart-agent", "KUBERNETES__SERVER": fleet.plane.server,
            "KUBERNETES__ACCOUNT": str(fleet.account), "KUBERNETES__LEASE": f"{NAMESPACE}/{NAME}",
            "KUBERNETES__LEASE_S": str(LEASE_S), "KUBERNETES__ALIVE": str(self.alive), "STORE_URL": store_url,
            "LEASE_S": "5", "HEARTBEAT_S": "0.2",
        }  # fmt: skip
        command = [sys.executable, "-m", "controller", "run", "--state", str(state), "--listen", self.address,
                   "--enrol-listen", f"{host}:{fleet.enrol_port}", "--metrics", ""]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True,
                env=os.environ | {prefix + key: value for key, value in settings.items()},
            )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append((time.monotonic(), json.loads(line)))

    def said(self, key: str) -> tuple[float, Any] | None:
        """When it first wrote a line in which *key* is something, and the line."""
        return next(((at, row) for at, row in self._lines if row.get(key)), None)

    def ready(self, within_s: float = START_S) -> float:
        """When it was ready to serve, waited for."""
        found = wait_for(lambda: self.said("ready"), within_s, self.text)
        return float(found[0])

    def stands_by(self, behind: str) -> None:
        """Waits until it says so."""
        found = wait_for(lambda: self.said("standing_by"), 15, self.text)
        assert behind in found[1]["standing_by"]

    def lives(self) -> bool:
        """By the liveness probe of the overlay, as the kubelet would ask it."""
        patch = DEPLOY / "components" / "high-availability" / "controller.yaml"
        (container,) = yaml.safe_load(patch.read_text())["spec"]["template"]["spec"]["containers"]
        program, *rest = container["livenessProbe"]["exec"]["command"]
        assert program == "python3"
        command = [sys.executable, *(word.replace("/tmp/alive", str(self.alive)) for word in rest)]
        return subprocess.run(command, check=False, capture_output=True, timeout=20).returncode == 0

    def text(self) -> str:
        return f"{self.name}:\n{self.log.read_text()}"

    def ended(self, within_s: float) -> int:
        return self.process.wait(within_s)

    def listens(self) -> bool:
        host, port = self.address.split(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False

    def client(self) -> Client:
        return Client(Settings(self.address, self.state / "admin"))


class Fleet:
    """What the members share: the port, the authority, the account, and the Lease."""

    def __init__(self, folder: Path, plane: Plane, kubectl: Kubectl, store_url: str) -> None:
        self.folder, self.plane, self._kubectl, self.store_url = folder, plane, kubectl, store_url
        self.port, self.enrol_port, self.account = free_port(), free_port(), folder / "account"
        self.authority, self.members, self._agents = Authority.create(folder / "ca"), [], []
        self.account.mkdir()
        (self.account / "token").write_text(kubectl("-n", NAMESPACE, "create", "token", NAME).strip())
        (self.account / "ca.crt").write_bytes(plane.authority.pair.cert.read_bytes())

    def start(self, name: str, host: str = "127.0.0.1", *, store_url: str = "", state: str = "") -> Member:
        made = Member(self, name, host, store_url or self.store_url, self.folder / f"state-{state or name}")
        self.members.append(made)
        return made

    def pair(self, second_host: str = "127.0.0.1", **more: str) -> tuple[Member, Member]:
        """One that leads and one that stands by."""
        leader = self.start("one", **more)
        leader.ready()
        standby = self.start("two", second_host, **more)
        standby.stands_by(self.holder())
        return leader, standby

    def agent(self, address: str) -> subprocess.Popen[bytes]:
        """A real one, that dials *address* and may pause processes."""
        cert, key = self.authority.issue("node", "agent")
        assert key is not None
        write_credential(self.folder / "agent" / "certs", cert, key, self.authority.ca_pem)
        (self.folder / "policy.yaml").write_text("faults: [process.pause]\n")
        command = [sys.executable, "-m", "agent", "run", "--id", "node", "--controller", address, "--label", "role=web",
                   "--state", str(self.folder / "agent"), "--policy", str(self.folder / "policy.yaml")]  # fmt: skip
        with (self.folder / "agent.log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log)
        self._agents.append(process)
        return process

    def spec(self) -> dict[str, Any]:
        return dict(self._kubectl.json("-n", NAMESPACE, "get", "lease", NAME)["spec"])

    def holder(self) -> str:
        return str(self.spec().get("holderIdentity") or "")

    def close(self) -> None:
        for process in (*self._agents, *(member.process for member in self.members)):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in (*self._agents, *(member.process for member in self.members)):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._kubectl("-n", NAMESPACE, "delete", "lease", NAME, "--ignore-not-found")


def install(kubectl: Kubectl) -> None:
    """The namespace, the account, and the rights that the overlay gives it."""
    component = DEPLOY / "components" / "high-availability" / "lease.yaml"
    kubectl("create", "namespace", NAMESPACE)
    kubectl("-n", NAMESPACE, "create", "serviceaccount", NAME)
    kubectl("apply", "-f", str(component))


@contextlib.contextmanager
def stopped(process: Any) -> Iterator[None]:
    """SIGSTOP, and SIGCONT in the end."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_for(check: Any, within_s: float, why: Any = lambda: "") -> Any:
    """What *check* answers, once that is something."""
    until = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < until, why()
        time.sleep(0.02)
    return found
