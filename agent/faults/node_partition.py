"""`node.partition`: this node is cut off from its cluster: from the API server, the other nodes, and their pods."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import kube_object as objects
from agent.faults import node_stop_kubelet as kubelet
from agent.faults import scope
from agent.faults.base import Effect, Page
from agent.faults.kube_held import KubeFault, planning
from agent.faults.network_partition import NetworkPartition
from agent.system import kube_access, proc
from agent.system.kube_wire import Api, Json
from protos.error import Problem, RefusedError, SpecError

_SERVER = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"  # of the service `kubernetes`


class NodePartitionSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    program: kubelet.Program = "kubelet"
    direction: Annotated[scope.Direction, Meta(description="in: what comes from the cluster; out: what goes to it")] = (
        "both"
    )
    server: Annotated[bool, Meta(description="the API server, too: false leaves the node known as ready")] = True


class NodePartition(KubeFault, NetworkPartition):
    """As `network.partition`, with the cluster's own list of who is meant."""

    kind: ClassVar[str] = "node.partition"
    spec: ClassVar[type[msgspec.Struct]] = NodePartitionSpec
    page: ClassVar[Page] = Page(
        does="Packets between this node and the rest of its cluster are dropped: API server, nodes, and their pods.",
        mechanism="The API server is asked for the addresses of itself, of the nodes and of their pods, when the fault "
        "is planned; then as `network.partition`, in the agent's own network namespace.",
        proof="As `network.partition`: the table's counters move, and up to three peers no longer answer.",
        ends="As `network.partition`: the kernel removes the cut when the holder dies, or at the deadline.",
        limits="The agent must run in the kubelet's network namespace (in a pod: hostNetwork), else it "
        "is refused. Where the controller is one of those addresses, the "
        "node's policy refuses it (protect_controller); use on_lost_controller: hold where it does not. What comes "
        "through a load balancer of another network is not cut. Nodes that join later are not cut.",
        example={},
        source="Kubernetes API, Node and EndpointSlice; nft(8), flags owner",
    )

    def missing(self) -> str:
        return NetworkPartition.missing(self) or kube_access.missing()

    def plan(self, spec: NodePartitionSpec) -> list[Effect]:  # type: ignore[override]  # its own spec
        found = kubelet.find(spec.program)
        _refuse_elsewhere(found)
        node = kubelet.node_of(found)
        with planning() as api:
            peers = _peers(api, node, server=spec.server)
        if not peers:
            raise SpecError(Problem("cluster", f"node {node} has nobody that it could be cut off from"))
        facts = scope.resolve(scope.Scope(peers=peers, direction=spec.direction))
        effect = self.effect(facts, f"node {node} cut off from its cluster: drop of {scope.words(facts)}")
        effect.touches.nodes, effect.touches.kubelets = [node], [spec.program]
        return [effect]


def _refuse_elsewhere(found: proc.Identity) -> None:
    """RefusedError where the agent's network is not the node's: it would cut off its own pod alone."""
    try:
        theirs, own = (os.stat(f"/proc/{pid}/ns/net") for pid in (found.pid, "self"))
    except OSError as error:
        told = f"the network namespace of {found.name} (pid {found.pid}) cannot be told: {error.strerror}"
        raise RefusedError(told) from error
    if (theirs.st_dev, theirs.st_ino) != (own.st_dev, own.st_ino):
        what = f"the agent is not in the network namespace of {found.name} (pid {found.pid})"
        raise RefusedError(f"{what}: it would cut off itself, not the node (in a pod: hostNetwork)")


def _peers(api: Api, node: str, *, server: bool) -> list[str]:
    """Addresses and networks of everybody but *node*."""
    found = objects.listed(api, objects.core("nodes"))
    if node not in map(objects.name_of, found):
        raise SpecError(Problem("cluster", f"it has no node {node!r}", "is KUBECONFIG that of this node's cluster?"))
    peers = {peer for one in found if objects.name_of(one) != node for peer in _of(one)}
    if server:
        slices = objects.listed(api, _SERVER, labels="kubernetes.io/service-name=kubernetes")
        peers |= {at for one in slices for end in one.get("endpoints") or [] for at in end["addresses"]}
    own = {peer for one in found if objects.name_of(one) == node for peer in _of(one)}
    return sorted(peers - own)


def _of(node: Json) -> list[str]:
    addresses: list[dict[str, Any]] = node["status"].get("addresses") or []
    pods = node["spec"].get("podCIDRs") or []
    return [one["address"] for one in addresses if one["type"] in ("InternalIP", "ExternalIP")] + pods
