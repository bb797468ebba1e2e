"""Targets of the faults that change packets on their way: namespaces of their own, as in `network`."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

from agent.system import qdisc, queue_socket, queue_table
from tests.chaos.case import Case, subject
from tests.chaos.subject import network

NEAR, FAR = "10.9.0.1", "10.9.0.2"
_DEVICE = {"mechanism": "auto", "device": "dev0", "direction": "out", "peers": []}
_NETEM = {} if network.missing() or qdisc.lacks("netem") else {"netem": _DEVICE | {"mechanism": "netem"}}


def missing() -> str:
    return network.missing() or queue_socket.missing() or queue_table.missing()


@contextlib.contextmanager
def pair() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """Two network namespaces with a cable between them: dev0 at the near end, 10.9.0.1, and far at the other."""
    with network.namespace() as near, network.namespace() as far:
        network.inside(near, "ip", "link", "add", "dev0", "type", "veth", "peer", "name", "far")
        network.inside(near, "ip", "link", "set", "dev", "far", "netns", str(far.pid))
        for process, device, address in ((near, "dev0", NEAR), (far, "far", FAR)):
            network.inside(process, "ip", "address", "add", f"{address}/24", "dev", device)
            network.inside(process, "ip", "link", "set", "dev", device, "up")
        yield near, far


def _case(kind: str, **more: Any) -> Iterator[Case]:
    with pair() as (process, _):
        spec = {"peers": ["127.0.0.7"], "direction": "in", "mechanism": "queue", "network_of": {"pid": process.pid}}
        yield Case(
            kind, spec | more, lambda: left(process), in_force=lambda: bool(queues(process)) or ours(process),
            vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip


def left(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Rules, packet queues and qdiscs of the process's namespace."""
    shown = network.inside(process, "tc", "qdisc", "show")
    return {"rules": network.rules(process), "queues": queues(process), "qdiscs": shown}


def queues(process: subprocess.Popen[bytes]) -> list[int]:
    """Numbers of the packet queues in the process's namespace; none when it is gone."""
    return sorted(queue_socket.standings(str(process.pid)))


def ours(process: subprocess.Popen[bytes]) -> bool:
    """Whether dev0 has a root qdisc that somebody has set."""
    return bool(network.inside(process, "tc", "qdisc", "show", "dev", "dev0").strip()[:9] in ("qdisc tbf", "qdisc net"))


@subject("network.delay", missing=missing, variants=_NETEM)
def delay() -> Iterator[Case]:
    yield from _case("network.delay", delay_ms=20)


@subject("network.reorder", missing=missing)
def reorder() -> Iterator[Case]:
    yield from _case("network.reorder", fraction=0.3, by_ms=10)


@subject("network.duplicate", missing=missing)
def duplicate() -> Iterator[Case]:
    yield from _case("network.duplicate", fraction=0.5)


@subject("network.corrupt", missing=missing)
def corrupt() -> Iterator[Case]:
    yield from _case("network.corrupt", fraction=0.5)


@subject("network.bandwidth", missing=missing, variants={"tbf": _DEVICE | {"mechanism": "tbf"}})
def bandwidth() -> Iterator[Case]:
    yield from _case("network.bandwidth", rate_mbit=20)
