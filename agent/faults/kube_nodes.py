"""Which nodes of the cluster a fault means."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent.faults import kube_object as objects
from agent.faults.kube_pods import Pick, Seed, picked
from agent.system.kube_wire import Api, Json
from protos.error import Problem, SpecError


class NodesSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Nodes of the cluster: exactly one of *node* and *selector*."""

    node: Annotated[str, Meta(pattern=r"^\Z|" + objects.NAME, description="the node's name")] = ""
    selector: Annotated[str, Meta(description="label selector, as for kubectl: `pool=gpu`")] = ""
    pick: Pick = 1
    seed: Seed = 0


def resolve(api: Api, spec: NodesSpec) -> list[Json]:
    """The nodes that are meant, at least one."""
    if bool(spec.node) == bool(spec.selector):
        raise SpecError(Problem("spec", "exactly one of node and selector must name the nodes"))
    fields = f"metadata.name={spec.node}" if spec.node else ""
    found = objects.listed(api, objects.core("nodes"), labels=spec.selector, fields=fields)
    if not found:
        where, what = ("node", spec.node) if spec.node else ("selector", spec.selector)
        raise SpecError(Problem(f"spec.{where}", f"no such node: {what!r}", "zero targets is never a success"))
    return picked(found, spec.pick, spec.seed)


def facts(node: Json, change: str) -> dict[str, Any]:
    """What is needed to change the node and set it back."""
    name = objects.name_of(node)
    return {
        "change": change, "path": objects.core("nodes", name), "uid": objects.uid(node), "node": name,
        "name": f"node {name}",
    }  # fmt: skip


def pods_on(api: Api, node: str) -> list[Json]:
    """All pods that are bound to the node."""
    return objects.listed(api, objects.core("pods"), fields=f"spec.nodeName={node}")
