"""A controller that has a good certificate and bad intentions, and a real agent that it is let loose on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Self

from protos.channel import SERVER_OPTIONS, server_credentials  # isort: skip - before grpc
import grpc
import pytest

from agent.journal import Journal
from agent.system import proc
from controller.pki import Authority
from protos import blackstart_agent_pb2 as pb
from protos.credential import write_credential
from tests.chaos import case as cases

EPOCH = 7
TURNED_AWAY = (pb.STATUS_REFUSED, pb.STATUS_INVALID)
_IDS = itertools.count(1)


def welcome(**more: Any) -> pb.ControllerMessage:
    terms = {"epoch": EPOCH, "heartbeat_s": 0.1, "lease_s": 10.0} | more
    return pb.ControllerMessage(welcome=pb.Welcome(**terms))


class Stream:
    """One connection of the agent: `send` messages, or raw bytes; None ends it."""

    def __init__(self) -> None:
        self.outgoing: queue.Queue[pb.ControllerMessage | bytes | None] = queue.Queue()
        self.ended = threading.Event()
        self.send = self.outgoing.put


class HostileController:
    """Speaks AgentLink over mTLS. *greeting* is what each new stream is sent first."""

    def __init__(self, authority: Authority) -> None:
        cert, key = authority.issue("controller", "controller", hosts=["127.0.0.1"])
        assert key is not None
        self.greeting: list[pb.ControllerMessage | bytes] = [welcome()]
        self.results: dict[str, list[pb.Result]] = {}
        self.events: list[pb.Event] = []
        self.streams: list[Stream] = []
        self._news = threading.Condition()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16), options=[*SERVER_OPTIONS, ("grpc.max_send_message_length", -1)]
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self._connect, pb.AgentMessage.FromString,
            lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        )  # fmt: skip
        services = grpc.method_handlers_generic_handler("blackstart.v1.AgentLink", {"Connect": handler})
        self._server.add_generic_rpc_handlers((services,))
        self.port = self._server.add_secure_port("127.0.0.1:0", server_credentials(cert, key, authority.ca_pem))
        self._server.start()

    def close(self) -> None:
        self.drop()
        self._server.stop(0.2).wait()

    def _connect(self, messages: Iterator[pb.AgentMessage], context: grpc.ServicerContext) -> Iterator[Any]:
        stream = Stream()
        context.add_callback(lambda: (stream.ended.set(), stream.send(None)))
        for message in self.greeting:
            stream.send(message)
        threading.Thread(target=self._read, args=(stream, messages), daemon=True).start()
        with self._news:
            self.streams.append(stream)
            self._news.notify_all()
        yield from iter(stream.outgoing.get, None)

    def _read(self, stream: Stream, messages: Iterator[pb.AgentMessage]) -> None:
        try:
            for message in messages:
                with self._news:
                    if message.HasField("result"):
                        self.results.setdefault(message.result.order_id, []).append(message.result)
                    elif message.HasField("event"):
                        self.events.append(message.event)
                    self._news.notify_all()
                if message.HasField("heartbeat"):
                    reply = pb.HeartbeatReply(agent_sent_ns=message.heartbeat.sent_ns, epoch=EPOCH)
                    stream.send(pb.ControllerMessage(heartbeat_reply=reply))
                elif message.sequence:
                    stream.send(pb.ControllerMessage(ack=pb.Ack(sequence=message.sequence)))
        except grpc.RpcError:
            pass
        stream.ended.set()

    def wait(self, check: Any, timeout_s: float = 15.0) -> Any:
        """What *check* gives once it is true."""
        with self._news:
            assert self._news.wait_for(check, timeout_s), "the agent said nothing of it in time"
            return check()

    def stream(self) -> Stream:
        """The connection that is up."""
        return self.wait(lambda: next((one for one in reversed(self.streams) if not one.ended.is_set()), None))

    def drop(self) -> None:
        """Ends what is up, and forgets it."""
        with self._news:
            ended, self.streams = self.streams, []
        for stream in ended:
            stream.send(None)

    def reconnected(self, *greeting: pb.ControllerMessage | bytes) -> Stream:
        """A new connection that begins with *greeting*."""
        self.greeting = list(greeting)
        self.drop()
        return self.stream()

    def send(self, kind: str, arguments: Any = None, **more: Any) -> str:
        """Sends an order; its id. *arguments*: bytes as they are, else as JSON."""
        fields = {"id": f"order-{os.getpid()}-{next(_IDS)}", "epoch": EPOCH, "run_id": "r", "actor": "mallory"} | more
        body = arguments if isinstance(arguments, bytes) else json.dumps(arguments or {}).encode()
        self.stream().send(pb.ControllerMessage(order=pb.Order(kind=kind, arguments_json=body, **fields)))
        return str(fields["id"])

    def result(self, order_id: str, timeout_s: float = 15.0) -> pb.Result:
        return self.wait(lambda: self.results.get(order_id), timeout_s)[0]

    def order(self, kind: str, arguments: Any = None, **more: Any) -> pb.Result:
        return self.result(self.send(kind, arguments, **more))


class Node:
    """A real agent (`python -m agent run`), seen from outside, with a target process that is to stay as it is."""

    def __init__(self, folder: Path, authority: Authority, port: int, policy: str) -> None:
        self.state, self.policy = folder / "state", folder / "policy.yaml"
        cert, key = authority.issue("node", "agent")
        assert key is not None
        write_credential(self.state / "certs", cert, key, authority.ca_pem)
        self.policy.write_text(policy)
        command = [sys.executable, "-m", "agent", "run", "--id", "node", "--controller", f"127.0.0.1:{port}"]
        with (folder / "agent.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--state", str(self.state), "--policy", str(self.policy)],
                stderr=log, env=cases.environment(),
            )  # fmt: skip
        self.targets: list[subprocess.Popen[bytes]] = []
        for at in range(4):
            self.start_target(at)

    @property
    def target(self) -> int:
        return self.targets[0].pid

    def start_target(self, at: int) -> None:
        """A process that is always busy, and named `target-AT`; in the place of one that was ended."""
        self.targets[at : at + 1] = [subprocess.Popen([sys.executable, "-c", f"{_BUSY}# target-{at}"])]

    def child(self, module: str) -> int:
        """The pid of the agent's child that runs *module*."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if module in proc.command_line(int(pid)))

    def audit(self) -> list[dict[str, Any]]:
        path = self.state / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def audited(self, order_id: str) -> list[dict[str, Any]]:
        return [
            row for row in self.audit() if row.get("order") == order_id and row["kind"] not in ("welcome", "stream")
        ]

    def seen(self) -> dict[str, Any]:
        """All that an attempt could have changed."""
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=False).stdout
        journal = Journal(self.state)
        in_force = [effect.description for effect in journal.in_force()]
        journal.close()
        return {
            "agent": proc.identify(self.process.pid), "guardian": proc.identify(self.child("agent.guardian")),
            "holders": cases.holders(), "rules": rules, "journal": in_force,
            "targets": [_state(target.pid) for target in self.targets],
        }  # fmt: skip

    def reload(self, policy: str) -> None:
        """Gives the agent another policy, as its owner does."""
        lines = (self.state.parent / "agent.log").read_bytes().count(b"policy ")
        self.policy.write_text(policy)
        self.process.send_signal(signal.SIGHUP)
        log = self.state.parent / "agent.log"
        cases.wait_until(lambda: log.read_bytes().count(b"policy ") > lines, 5.0)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        finally:
            self.process.kill()
            self.process.wait()
            cases.end(*self.targets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_BUSY = "import time\nwhile True: sum(range(500)); time.sleep(0.001)  "


def _state(pid: int) -> tuple[Any, bool]:
    identity = proc.identify(pid)
    return identity, identity is not None and proc.is_stopped(identity)


@contextlib.contextmanager
def let_loose(folders: pytest.TempPathFactory, policy: str) -> Iterator[tuple[HostileController, Node]]:
    """A hostile controller and an agent that obeys it, as far as *policy* goes."""
    os.environ.setdefault("BLACKSTART_TEST", str(os.getpid()))
    authority = Authority.create(folders.mktemp("authority"))
    controller = HostileController(authority)
    try:
        with Node(folders.mktemp("node"), authority, controller.port, policy) as node:
            controller.stream()
            assert controller.order("fault.revert").status == pb.STATUS_DONE
            yield controller, node
    finally:
        controller.close()


def at_rest(controller: HostileController, node: Node) -> None:
    """Ends what a test left in force."""
    controller.reconnected(welcome())
    assert controller.order("node.stop", run_id="").status == pb.STATUS_DONE
    assert controller.order("node.lift", run_id="").status == pb.STATUS_DONE
    assert node.process.poll() is None, "the agent died of it"


def refused(node: Node, result: pb.Result, why: str = "") -> None:
    """The answer says so, and the audit has one line of it."""
    assert result.status in TURNED_AWAY, f"{pb.Status.Name(result.status)}: {result.message}"
    assert why in result.message
    (row,) = node.audited(result.order_id)
    assert row["status"] in ("refused", "invalid")
    assert row["why"]
    assert row["actor"] == "mallory"
    assert row["wall"]


def settled(node: Node, before: dict[str, Any], timeout_s: float = 3.0) -> dict[str, Any]:
    """What is seen, once it is as before or the time is over: a holder that was let go takes a moment to end."""
    until = time.monotonic() + timeout_s
    while (now := node.seen()) != before and time.monotonic() < until:
        time.sleep(0.02)
    return now
