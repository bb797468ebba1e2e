"""Every kind of probe this agent knows. A new probe is a new file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, cast

from agent.probes.amqp import AmqpProbe
from agent.probes.base import Probe, ProbeSpec, read_spec
from agent.probes.command import CommandProbe, CommandSpec
from agent.probes.dns import DnsProbe
from agent.probes.encode import EncodeProbe
from agent.probes.grpc import GrpcProbe
from agent.probes.hls import HlsProbe
from agent.probes.http import HttpProbe
from agent.probes.kube import KubeProbe
from agent.probes.log import LogProbe
from agent.probes.nats import NatsProbe
from agent.probes.object import ObjectProbe
from agent.probes.postgres import PostgresProbe
from agent.probes.process import ProcessProbe
from agent.probes.redis import RedisProbe
from agent.probes.tcp import TcpProbe
from protos.error import Problem, RefusedError, SpecError

Allowed = Callable[[list[str]], bool]

KINDS: Final[dict[str, type[Any]]] = {
    probe.kind: probe
    for probe in (
        AmqpProbe, CommandProbe, DnsProbe, EncodeProbe, GrpcProbe, HlsProbe, HttpProbe, KubeProbe, LogProbe, NatsProbe,
        ObjectProbe, PostgresProbe, ProcessProbe, RedisProbe, TcpProbe,
    )
}  # fmt: skip


def build(kind: str, document: Any, allowed: Allowed) -> Probe:
    """A probe that is not open yet; *allowed* says whether the node's policy lets a command run.

    Raises:
        SpecError: unknown kind, or everything that is wrong with the spec.
        RefusedError: the node lacks what it needs, or its policy does not allow it.
    """
    if kind not in KINDS:
        raise SpecError(Problem("kind", f"unknown probe {kind!r}", f"known: {', '.join(KINDS)}"))
    probe = KINDS[kind]
    spec: ProbeSpec = read_spec(kind, probe.spec_type, document)
    if lacks := probe.missing():
        raise RefusedError(f"probe {kind} cannot run on this node: it lacks {lacks}")
    if isinstance(spec, CommandSpec) and not allowed(spec.argv):
        raise RefusedError(
            f"the node's policy does not allow the command {' '.join(spec.argv)!r}; "
            "its owner may add it to `commands` of the policy file"
        )
    return cast("Probe", probe(spec))


def capabilities(commands: Collection[Sequence[str]]) -> list[tuple[str, str]]:
    """(kind, what is missing on this node) of every kind; *commands* are what the policy allows to run."""
    rows = [(kind, probe.missing()) for kind, probe in KINDS.items()]
    return [
        (kind, lack or ("a command in the policy" if kind == "command" and not commands else "")) for kind, lack in rows
    ]
