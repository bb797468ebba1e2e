"""`lease.steal`: a leader election's Lease is taken from the leader and kept: nobody leads."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from agent.faults import kube_lease as lease
from agent.faults import kube_object as objects
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.kube_held import ENDS, HeldKube, ask, effect, planning, receipt, until
from agent.system.kube_wire import Api, Json
from protos.error import Problem, SpecError

_MARGIN_S: Final = 2.0


class StealSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    namespace: objects.Namespace
    name: objects.Named


class LeaseSteal(HeldKube):
    """Read again after a while, the lease is ours and has been renewed: nobody took it back."""

    kind: ClassVar[str] = "lease.steal"
    spec: ClassVar[type[msgspec.Struct]] = StealSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="The leader of an election loses its Lease, and nobody else gets it: no replica leads while the fault "
        "lasts.",
        mechanism="The Lease's holderIdentity is set to the effect's, leaseTransitions counts one more, and a holder "
        "renews it four times per lease duration (every 2 s at the least).",
        proof="Read again until it has been renewed once: it is still held by the effect.",
        ends=ENDS + "It is released (holderIdentity empty), so that whoever campaigns takes it at once. The former "
        "holder is not put back: it has stopped leading, and a Lease in its name would keep everybody waiting. Should "
        "all of ours die, the Lease expires by itself.",
        limits="The leader notices at its next renewal, and may work on until its own renew deadline has passed. Many "
        "leaders end their process when they lose. Leases in kube-system and of nodes (kube-node-lease) are protected "
        "by default. leaseTransitions stays as it is then.",
        example={"namespace": "shop", "name": "encoder-leader"},
        source="Kubernetes API, Lease; client-go, leaderelection",
    )  # fmt: skip

    def plan(self, spec: StealSpec) -> list[Effect]:
        path = objects.group("coordination.k8s.io/v1", "leases", spec.name, spec.namespace)
        with planning() as api:
            found = objects.find(api, path)
        if found is None or objects.is_ending(found):
            what = f"no lease {spec.name} in namespace {spec.namespace}"
            raise SpecError(Problem("spec.name", what, "zero targets is never a success"))
        holder = found["spec"].get("holderIdentity") or "nobody"
        name = f"lease {spec.namespace}/{spec.name}"
        return [
            effect(
                self.kind, self.undo, resource=f"lease:{objects.uid(found)}", description=f"{name} taken from {holder}",
                touches=Touched(namespaces=[spec.namespace]),
                facts={
                    "change": "lease", "path": path, "uid": objects.uid(found), "name": name, "object": spec.name,
                    "namespace": spec.namespace, "from": holder,
                    "lasts_s": int(found["spec"].get("leaseDurationSeconds") or lease.DURATION_S),
                },
            )
        ]  # fmt: skip

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts

        def spec(api: Api) -> Json:
            found = objects.same(api, facts["path"], facts["uid"])
            return found["spec"] if found is not None else {}

        first = await ask(effect, spec)
        ours = first.get("holderIdentity") == lease.identity(facts)

        def renewed(api: Api) -> bool:
            now = spec(api)
            return bool(now.get("holderIdentity") == lease.identity(facts) and now["renewTime"] > first["renewTime"])

        kept = ours and await until(effect, renewed, lease.renew_s(facts) + _MARGIN_S)
        held = (await ask(effect, spec)).get("holderIdentity") or "nobody"
        text = f"{facts['name']} is held by {held}{', and renewed' if kept else ''}; before: {facts['from']}"
        return receipt(injected, confirmed=kept, text=text)

    def _by_hand(self, facts: dict[str, Any]) -> str:
        patch = '{"spec":{"holderIdentity":""}}'
        return f"kubectl -n {facts['namespace']} patch lease {facts['object']} --type=merge -p '{patch}'"
