"""The target of `network.dns`: a namespace with a real resolver on its loopback."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos import dns_server
from tests.chaos.case import Case, subject
from tests.chaos.subject import network, network_queue

RESOLVER = "127.0.0.1"


def missing() -> str:
    return network_queue.missing() or dns_server.missing()


@subject("network.dns", missing=missing, variants={"slow": {"mode": "slow", "delay_ms": 50}})
def dns() -> Iterator[Case]:
    with network.namespace() as process, dns_server.serving(process, RESOLVER):
        spec = {"mode": "servfail", "names": ["db.test"], "resolver": RESOLVER, "network_of": {"pid": process.pid}}
        yield Case(
            "network.dns", spec, lambda: network_queue.left(process),
            in_force=lambda: bool(network_queue.queues(process)) or "blackstart" in network.rules(process),
            vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip
