"""`dns.coredns_kill`: the pods of the cluster's own DNS are killed."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from agent.faults import kube_object as objects
from agent.faults import kube_pods as pods
from agent.faults import pod_kill
from agent.faults.base import Effect, Page
from agent.faults.kube_held import planning
from agent.system.kube_wire import Api
from protos.error import Problem, SpecError

_SERVICE: Final = "kube-dns"  # of whatever program: the name is part of Kubernetes' own DNS add-ons


class CorednsSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    namespace: objects.Namespace = "kube-system"
    pick: pods.Pick = 0
    seed: pods.Seed = 0
    via: pod_kill.Via = "delete"
    grace_s: pod_kill.GraceS = 0


class DnsCorednsKill(pod_kill.PodKill):
    """As `pod.kill`, of the pods that serve the cluster's DNS."""

    kind: ClassVar[str] = "dns.coredns_kill"
    spec: ClassVar[type[msgspec.Struct]] = CorednsSpec
    page: ClassVar[Page] = Page(
        does="The pods of the cluster's own DNS are killed, all of them by default: names do not resolve until others "
        "serve.",
        mechanism="The pods that the Service kube-dns of the namespace selects; then as `pod.kill`: "
        "DELETE of each pod, or POST to its `eviction`, with its UID as a precondition.",
        proof="Read again, the pod of that UID is gone, or it bears a deletionTimestamp while its grace lasts.",
        ends="There is nothing to undo: the deployment of the DNS makes new ones.",
        limits="kube-system is protected by default: the node's owner must take it out of `protected_namespaces`, and "
        "where a PodDisruptionBudget covers the DNS, set `respect_pdb: false` to kill all of it at once. What clients "
        "and NodeLocal DNSCache have cached goes on resolving. "
        + pod_kill.LIMITS,
        example={"pick": 1},
        source="kubernetes.io, Customizing DNS Service",
    )  # fmt: skip

    def plan(self, spec: CorednsSpec) -> list[Effect]:  # type: ignore[override] # its own spec, of the same pods
        with planning() as api:
            behind = _selector(api, spec.namespace)
        return super().plan(
            pod_kill.KillSpec(
                namespace=spec.namespace, selector=behind, pick=spec.pick, seed=spec.seed, via=spec.via,
                grace_s=spec.grace_s,
            )
        )  # fmt: skip


def _selector(api: Api, namespace: str) -> str:
    """Of the pods behind the cluster's DNS: no spec says which, else this would be `pod.kill` by another name."""
    found = objects.find(api, objects.core("services", _SERVICE, namespace))
    marks = ((found or {}).get("spec") or {}).get("selector")
    if not marks:
        what = f"namespace {namespace} has no Service {_SERVICE} that selects pods"
        raise SpecError(Problem("spec.namespace", what, "zero targets is never a success"))
    return objects.as_query({"matchLabels": marks})
