"""`pod.partition`: a pod of this node is cut off, in its own network namespace.

The namespace is found by the pod's sandbox: a container that restarts, as one does whose liveness check is cut, too,
comes back behind the same cut.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import pod_target as target
from agent.faults import scope
from agent.faults.base import Effect, Page
from agent.faults.network_partition import NetworkPartition
from agent.system import pod
from protos.error import RefusedError


class PodPartitionSpec(target.PodSpec, kw_only=True, forbid_unknown_fields=True):
    peers: Annotated[list[str], Meta(description="addresses and networks; empty: everyone")] = msgspec.field(
        default_factory=list
    )
    direction: Annotated[
        scope.Direction, Meta(description="in: what comes to the pod from the peers; out: what it sends them")
    ] = "both"
    protocol: Annotated[Literal["any", "tcp", "udp", "icmp"], Meta(description="protocol of the packets")] = "any"
    ports: Annotated[list[scope.Port], Meta(description="the peers' or the pod's; empty: all")] = msgspec.field(
        default_factory=list
    )


class PodPartition(NetworkPartition):
    """As `network.partition`, where the pod's sandbox is."""

    kind: ClassVar[str] = "pod.partition"
    spec: ClassVar[type[msgspec.Struct]] = PodPartitionSpec
    page: ClassVar[Page] = Page(
        does="Packets between a pod of this node and its peers are dropped: a cut, both ways or one way.",
        mechanism="An nftables table in the pod's network namespace, with the peers in sets whose elements expire at "
        "the deadline. The namespace is found by the pod's sandbox, in /proc, without asking the API server.",
        proof="The table's counters move, and up to three peers no longer answer a process in the pod's namespace.",
        ends="The table is owned by its holder's socket: the kernel removes it when the holder dies, with the agent or "
        "alone. If the holder hangs, the elements expire. With the pod, its namespace and the cut are gone.",
        limits=target.LIMITS + "The kubelet's checks are cut, too, unless peers or ports leave them out: a pod whose "
        "liveness check fails is restarted, behind the same cut.",
        example={"namespace": "encode", "name": "worker-*", "peers": ["10.96.0.0/12"]},
        source="nft(8), flags owner; Linux 5.12",
    )

    def missing(self) -> str:
        return super().missing() or pod.missing()

    def plan(self, spec: PodPartitionSpec) -> list[Effect]:  # type: ignore[override]  # its own spec
        effects = []
        for one in target.resolve(spec):
            asked = scope.Scope(peers=spec.peers, direction=spec.direction, protocol=spec.protocol, ports=spec.ports)
            facts = scope.resolve(asked, everyone=True, root=one.sandbox)
            if scope.own_network(facts):
                raise RefusedError(f"{target.named(one)} has the node's own network: node.partition is what cuts it")
            effect = self.effect(facts, f"drop of {scope.words(facts)} of {target.named(one)}")
            effect.touches.namespaces = [one.namespace]
            effects.append(effect)
        return effects
