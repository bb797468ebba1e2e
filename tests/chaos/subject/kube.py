"""Targets of the faults that act through the Kubernetes API: each in a namespace and on a node of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.chaos import kube_eye
from tests.chaos.case import Case, subject
from tests.chaos.kube_eye import Eye, missing

REPLICAS = 2
LASTS_S = 4.0  # the client library is loaded first, and more often than once


@contextlib.contextmanager
def stage() -> Iterator[tuple[Eye, str, str]]:
    """An eye, a namespace, a node."""
    with kube_eye.eye() as one, kube_eye.node(one) as host, kube_eye.namespace(one) as space:
        yield one, space, host


@subject("pod.kill", missing=missing, home="cluster", lasts_s=LASTS_S, variants={"evict": {"via": "evict"}})
def pod_kill() -> Iterator[Case]:
    with stage() as (one, space, host):
        kube_eye.deployment(one, space, host)
        (pod, *_) = kube_eye.running(one, space)
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{space}/pods/{name}"
        yield Case(
            "pod.kill", {"namespace": space, "name": name},
            lambda: {"pod": one.get(path).get("metadata", {}).get("uid")}, vanish=lambda: one.delete(path),
            spent=frozenset({"pod"}),
        )  # fmt: skip


def _node(one: Eye, host: str) -> dict[str, Any]:
    """What of a node a fault could leave, without what controllers write by themselves."""
    found = one.get(f"/api/v1/nodes/{host}")
    spec = found.get("spec", {})
    return {
        "unschedulable": spec.get("unschedulable"), "marks": kube_eye.marks(found),
        "taints": [taint for taint in spec.get("taints") or [] if not taint["key"].startswith("node.kubernetes.io/")],
    }  # fmt: skip


@contextlib.contextmanager
def _on_node(kind: str, **spec: Any) -> Iterator[tuple[Case, Eye, str]]:
    with kube_eye.eye() as one, kube_eye.node(one) as host:
        vanish = lambda: one.delete(f"/api/v1/nodes/{host}")  # noqa: E731
        yield Case(kind, {"node": host, **spec}, lambda: _node(one, host), vanish=vanish), one, host


@subject("node.cordon", missing=missing, home="cluster", lasts_s=LASTS_S)
def cordon() -> Iterator[Case]:
    with _on_node("node.cordon") as (case, one, host):
        case.in_force = lambda: bool(_node(one, host)["unschedulable"])
        yield case


@subject("node.taint", missing=missing, home="cluster", lasts_s=LASTS_S, variants={"execute": {"effect": "NoExecute"}})
def taint() -> Iterator[Case]:
    with _on_node("node.taint", key="test") as (case, one, host):
        case.in_force = lambda: bool(_node(one, host)["taints"])
        yield case


def _deployed(one: Eye, path: str) -> dict[str, Any]:
    found = one.get(path)
    if not found:
        return {}
    containers = found["spec"]["template"]["spec"]["containers"]
    return {
        "replicas": found["spec"]["replicas"], "images": [one["image"] for one in containers],
        "marks": kube_eye.marks(found),
    }  # fmt: skip


@subject("deployment.scale", missing=missing, home="cluster", lasts_s=LASTS_S)
def scale() -> Iterator[Case]:
    with stage() as (one, space, host):
        path = kube_eye.deployment(one, space, host, REPLICAS)
        yield Case(
            "deployment.scale", {"namespace": space, "name": "web", "replicas": 0}, lambda: _deployed(one, path),
            in_force=lambda: _deployed(one, path).get("replicas") == 0, vanish=lambda: one.delete(path),
        )  # fmt: skip


@subject("node.drain", missing=missing, home="cluster", lasts_s=LASTS_S)
def drain() -> Iterator[Case]:
    with stage() as (one, space, host):
        kube_eye.deployment(one, space, host, REPLICAS)
        yield Case(
            "node.drain", {"node": host, "grace_s": 0}, lambda: _node(one, host),
            in_force=lambda: bool(_node(one, host)["unschedulable"]),
            vanish=lambda: one.delete(f"/api/v1/nodes/{host}"),
        )  # fmt: skip


@subject("rollout.bad_image", missing=missing, home="cluster", lasts_s=LASTS_S)
def bad_image() -> Iterator[Case]:
    with stage() as (one, space, host):
        path = kube_eye.deployment(one, space, host, REPLICAS)
        before = _deployed(one, path)["images"]
        yield Case(
            "rollout.bad_image", {"namespace": space, "name": "web"}, lambda: _deployed(one, path),
            in_force=lambda: _deployed(one, path).get("images", before) != before, vanish=lambda: one.delete(path),
        )  # fmt: skip


@contextlib.contextmanager
def _made(kind: str, plural: str, **spec: Any) -> Iterator[Case]:
    """A case of what is made in a namespace: whatever of that kind is there is seen."""
    with stage() as (one, space, host):
        kube_eye.deployment(one, space, host, 1)

        def names() -> list[str]:
            return [found["metadata"]["name"] for found in one.items(plural.format(space))]

        def vanish() -> None:
            for name in names():
                one.delete(f"{plural.format(space)}/{name}")

        yield Case(kind, {"namespace": space, **spec}, lambda: {"made": names()}, lambda: bool(names()), vanish)


@subject("pdb.block", missing=missing, home="cluster", lasts_s=LASTS_S)
def pdb() -> Iterator[Case]:
    plural = "/apis/policy/v1/namespaces/{}/poddisruptionbudgets"
    with _made("pdb.block", plural, labels={"app": "web"}) as case:
        yield case


@subject("quota.exhaust", missing=missing, home="cluster", lasts_s=LASTS_S, variants={"headroom": {"headroom": 3}})
def quota() -> Iterator[Case]:
    with _made("quota.exhaust", "/api/v1/namespaces/{}/resourcequotas") as case:
        yield case


@subject("lease.steal", missing=missing, home="cluster", lasts_s=LASTS_S)
def lease() -> Iterator[Case]:
    with kube_eye.eye() as one, kube_eye.namespace(one) as space:
        plural = f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases"
        now = "2026-01-01T00:00:00.000000Z"
        spec = {
            "holderIdentity": "somebody", "leaseDurationSeconds": 4, "acquireTime": now, "renewTime": now,
            "leaseTransitions": 7,
        }  # fmt: skip
        one.ask("POST", plural, {"metadata": {"name": "leader"}, "spec": spec})

        def ours() -> bool:
            found = one.get(f"{plural}/leader").get("spec", {})
            return str(found.get("holderIdentity", "")).startswith("blackstart-")

        yield Case(
            "lease.steal", {"namespace": space, "name": "leader"}, lambda: {"ours": ours()}, in_force=ours,
            vanish=lambda: one.delete(f"{plural}/leader"),
        )  # fmt: skip


@subject("dns.coredns_kill", missing=missing, home="cluster", lasts_s=LASTS_S)
def coredns() -> Iterator[Case]:
    with stage() as (one, space, host):
        kube_eye.deployment(one, space, host, 1, name="coredns")
        (pod,) = kube_eye.running(one, space, "coredns")
        path = f"/api/v1/namespaces/{space}/pods/{pod['metadata']['name']}"
        service = {"metadata": {"name": "kube-dns"}, "spec": {"selector": {"app": "coredns"}, "ports": [{"port": 53}]}}
        one.ask("POST", f"/api/v1/namespaces/{space}/services", service)
        spec = {"namespace": space}
        yield Case(
            "dns.coredns_kill", spec, lambda: {"pod": one.get(path).get("metadata", {}).get("uid")},
            vanish=lambda: one.delete(path), spent=frozenset({"pod"}),
        )  # fmt: skip
