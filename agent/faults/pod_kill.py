"""`pod.kill`: a pod is deleted or evicted, at once or with its grace. Nothing to undo."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from agent.faults import kube_object as objects
from agent.faults import kube_pods as pods
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.kube_held import KubeFault, ask, effect, planning, receipt, until
from agent.faults.once import OnceFault
from agent.system.kube_wire import Answer, Api, Json
from protos.error import RefusedError

_GONE_S: Final = 5.0  # beside the grace
_LONGEST_S: Final = 40.0  # that a receipt waits
GraceS = Annotated[int, Meta(ge=0, le=600, description="grace for the pod's processes, seconds; 0: killed at once")]
Via = Annotated[
    Literal["delete", "evict"],
    Meta(description="delete: as `kubectl delete pod`; evict: as `kubectl drain`, which budgets may refuse"),
]
Force = Annotated[bool, Meta(description="also pods without an owner, which nothing brings back")]
LIMITS: Final = (
    "With grace 0 the pod is gone from the API at once; its node's kubelet kills the processes some moments later, and "
    "not before it can be reached. Static pods are refused. Where the node's policy respects PodDisruptionBudgets "
    "(`respect_pdb`), a deletion goes by the eviction API with the same grace, so that budgets are kept also when "
    "several are killed at once. Every agent that is a target kills its own choice: name one agent."
)


class KillSpec(pods.PodsSpec, kw_only=True, forbid_unknown_fields=True):
    via: Via = "delete"
    grace_s: GraceS = 0
    force: Force = False


class PodKill(KubeFault, OnceFault):
    """The end is seen by another request: the pod of that UID is not there, or is being ended."""

    kind: ClassVar[str] = "pod.kill"
    spec: ClassVar[type[msgspec.Struct]] = KillSpec
    page: ClassVar[Page] = Page(
        does="Pods are deleted or evicted, at once or with a grace; their owner brings others.",
        mechanism="DELETE of the pod, or POST to its `eviction`, with its UID as a precondition.",
        proof="Read again, the pod of that UID is gone, or it bears a deletionTimestamp while its grace lasts.",
        ends="There is nothing to undo: the pods' owner makes new ones, or does not.",
        limits=LIMITS,
        example={"namespace": "shop", "selector": "app=web", "pick": 1},
        source="Kubernetes API, Pod and Eviction; kubernetes.io, API-initiated eviction",
    )

    def plan(self, spec: KillSpec) -> list[Effect]:
        with planning() as api:
            found = pods.resolve(api, spec)
            pods.refuse_lonely(found, force=spec.force)
            return [self._effect(api, pod, spec.via, spec.grace_s) for pod in found]

    def _effect(self, api: Api, pod: Json, via: str, grace_s: int) -> Effect:
        known = pods.facts(pod)
        tried = pods.evict(api, known, grace_s, dry_run=True)
        against = [f"pod {pods.place(pod)}: {tried.message}"] if pods.blocked(tried) else []
        return effect(
            self.kind, Undo.SELF_HEALING, resource=f"pod:{known['uid']}",
            description=f"pod {pods.place(pod)} {'deleted' if via == 'delete' else 'evicted'}, grace {grace_s} s",
            touches=Touched(namespaces=[known["namespace"]], budgets=against),
            facts=known | {"via": via, "grace_s": grace_s, "respect_pdb": True},
        )  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        facts = effect.facts

        def end(api: Api) -> Answer:
            if facts["via"] == "delete" and not facts["respect_pdb"]:
                return pods.delete(api, facts, facts["grace_s"])
            return pods.evict(api, facts, facts["grace_s"])

        answer = await ask(effect, end)
        if pods.blocked(answer):
            raise RefusedError(f"{effect.description}: a PodDisruptionBudget forbids it: {answer.message}")
        return Injected(answer.lo_ns, answer.hi_ns)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        patience_s = min(_LONGEST_S, facts["grace_s"] + _GONE_S)
        gone = await until(effect, lambda api: pods.current(api, facts) is None, patience_s)
        seen = None if gone else await ask(effect, lambda api: pods.current(api, facts))
        text = f"the pod of UID {facts['uid']} {_state(seen)}"
        return receipt(injected, confirmed=seen is None or objects.is_ending(seen), text=text)


def _state(pod: Json | None) -> str:
    if pod is None:
        return "is gone"
    since = pod["metadata"].get("deletionTimestamp")
    return f"has until {since} to end, and is still there" if since else "is there as before"
