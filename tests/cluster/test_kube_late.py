"""Requests that are given up: nothing arrives after a revert has found nothing left, and no limit is overrun."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent.faults import kube_hold
from agent.faults.base import Effect
from agent.system import holder, kube, kube_client
from agent.system.kube_client import Client
from agent.system.kube_wire import KubeError, NoAnswerError
from blackstart.local.cluster.plane import Plane
from protos.error import FaultError
from tests.chaos.kube_eye import Eye, marks
from tests.cluster.fault_rig import planned

pytestmark = [pytest.mark.timeout(120)]
ANSWER_S = 1.0
LATE_S = 8.0  # the kernel sends again within that, if it does
CUTS = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="cuts a connection: needs root and nftables"
)
Staged = tuple[Eye, str, str]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_client, "ANSWER_S", ANSWER_S)


class Cutting(Client):
    """A client whose way to the server is cut just before it changes anything."""

    port = 0
    table = f"blackstart_test_{os.getpid()}"

    def request(self, method: str, path: str, **more: Any) -> Any:
        if method in ("POST", "PATCH"):
            pool = self._api.rest_client.pool_manager.connection_from_host("127.0.0.1", self.port, "https")
            (own,) = [one.sock.getsockname()[1] for one in list(pool.pool.queue) if one is not None]
            rule = f"tcp dport {self.port} tcp sport {own} drop"
            nft(f"add table inet {self.table}\n"
                f"add chain inet {self.table} input {{ type filter hook input priority 0; }}\n"
                f"add rule inet {self.table} input {rule}\n")  # fmt: skip
        return super().request(method, path, **more)


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


@contextlib.contextmanager
def cut(plane: Plane) -> Iterator[Cutting]:
    """The cut heals at the end."""
    client = Cutting()
    client.port = int(urlsplit(plane.server).port or 0)
    client.request("GET", "/version")
    try:
        yield client
    finally:
        nft(f"add table inet {client.table}\ndelete table inet {client.table}")


@contextlib.contextmanager
def hung(plane: Plane) -> Iterator[None]:
    """The API server does nothing, and goes on at the end with all that lies before it."""
    server = plane.members["kube-apiserver"].process
    server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send_signal(signal.SIGCONT)


def effect_of(change: str, staged: Staged) -> tuple[Any, Effect]:
    _one, space, host = staged
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "cordon": ("node.cordon", {"node": host}),
        "quota": ("quota.exhaust", {"namespace": space}),
    }
    return planned(*kinds[change])


def never_there(client: Client, facts: dict[str, Any], for_s: float) -> None:
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        assert kube_hold.left(client, facts) == "", "the request came after all"
        time.sleep(0.1)


@CUTS
@pytest.mark.parametrize("change", ["cordon", "quota"])
def test_what_was_not_sent_never_arrives(change: str, plane: Plane, staged: Staged) -> None:
    _, effect = effect_of(change, staged)
    effect.facts["settled"] = True  # so that nothing but the connection itself is in its way
    with cut(plane) as client, pytest.raises(NoAnswerError):
        kube_hold.take(client, effect.facts)
    fresh = Client()
    kube_hold.give_back(fresh, effect.facts)
    try:
        never_there(fresh, effect.facts, LATE_S)
    finally:
        kube_hold.give_back(fresh, effect.facts)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_request_takes_as_long_as_it_says_and_is_made_once(method: str, plane: Plane, staged: Staged) -> None:
    client = Client()
    client.request("GET", "/version")
    with hung(plane):
        began_s = time.monotonic()
        with pytest.raises(NoAnswerError):
            client.request(method, f"/api/v1/namespaces/{staged[1]}/pods/none")
        assert time.monotonic() - began_s < ANSWER_S + 0.7


async def test_a_holder_that_gets_no_answer_is_a_fault_that_failed(
    plane: Plane, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "_START_TIMEOUT_S", 4.0)
    fault, effect = effect_of("cordon", staged)
    fault.prepare(effect)
    kube.SESSION.request("GET", "/version")
    with hung(plane), pytest.raises(FaultError, match="did not take hold within 4 s"):
        await fault.inject(effect)
    await fault.revert(effect)
    assert fault.residue(effect) == []


class Balancer:
    """What stands before API servers: it passes bytes on, and what it has taken also when its client has gone."""

    def __init__(self, server: str) -> None:
        self._server = ("127.0.0.1", int(urlsplit(server).port or 0))
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._door.getsockname()[1]}"
        self.flows = threading.Event()
        self.flows.set()
        self._ends: list[socket.socket] = [self._door]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, far = self._door.accept()[0], socket.create_connection(self._server)
                self._ends += [near, far]
                threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, waits: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if waits:
                    self.flows.wait(30)
                sink.sendall(data)

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def balancer(plane: Plane, tmp_path: Path, staged: Staged, monkeypatch: pytest.MonkeyPatch) -> Iterator[Balancer]:
    del staged
    made = Balancer(plane.server)
    settings = json.loads(plane.admin.read_text())
    settings["clusters"][0]["cluster"]["server"] = made.url
    (tmp_path / "kubeconfig").write_text(json.dumps(settings))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield made
    made.close()


class Held(Client):
    """A client whose changes stay in the balancer."""

    balancer: Balancer

    def request(self, method: str, path: str, **more: Any) -> Any:
        if method in ("POST", "PATCH"):
            self.balancer.flows.clear()
        return super().request(method, path, **more)


@pytest.mark.parametrize("change", ["cordon", "quota"])
def test_what_was_sent_and_not_answered_does_not_stay(
    change: str, plane: Plane, staged: Staged, balancer: Balancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A balancer has the request, and passes it on after a fresh connection has looked."""
    _, effect = effect_of(change, staged)
    client = Held()
    client.balancer = balancer
    client.request("GET", "/version")
    with pytest.raises(NoAnswerError):
        kube_hold.take(client, effect.facts)
    monkeypatch.setenv("KUBECONFIG", str(plane.admin))
    fresh = Client()
    later = threading.Timer(0.7, balancer.flows.set)
    later.start()
    kube_hold.give_back(fresh, effect.facts)
    never_there(fresh, effect.facts, 2.0)
    found = staged[0].get(f"/api/v1/nodes/{staged[2]}")
    assert not found["spec"].get("unschedulable")
    assert marks(found) == []


def written(node: dict[str, Any]) -> Any:
    """What of a node is not its status, which whoever plays or runs it tells again and again."""
    meta = {key: value for key, value in node["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    by = [field for field in node["metadata"].get("managedFields", ()) if field.get("subresource") != "status"]
    return node["spec"], meta, by


@pytest.mark.parametrize("change", ["cordon", "quota"])
def test_what_was_answered_is_not_waited_for(change: str, staged: Staged) -> None:
    """Neither after an injection nor after a refusal."""
    one, _, host = staged
    _, effect = effect_of(change, staged)
    client = Client()
    kube_hold.take(client, effect.facts)
    kube_hold.give_back(client, effect.facts)
    version = written(one.get(f"/api/v1/nodes/{host}"))
    began_s = time.monotonic()
    kube_hold.give_back(client, effect.facts)
    assert time.monotonic() - began_s < 1.0
    refused = effect_of("cordon", staged)[1].facts | {"before": True}
    with pytest.raises(KubeError, match="is not as it was planned"):
        kube_hold.take(client, refused)
    kube_hold.give_back(client, refused)
    assert written(one.get(f"/api/v1/nodes/{host}")) == version
