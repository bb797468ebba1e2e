"""Which pods of this node a fault means, without asking the API server.

Invariant: a pod is its UID and its sandbox's identity, resolved at planning: one that took its name is not touched.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agent.system import pod
from protos.error import Problem, SpecError

LIMITS: Final = (
    "The pod must run on the agent's own node, and the agent must see the node's processes (in a pod: hostPID). "
)


class PodSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    namespace: Annotated[str, Meta(min_length=1, max_length=63, description="of the pods")]
    name: Annotated[str, Meta(min_length=1, max_length=253, description="of the pods; may be a pattern: web-*")]


def resolve(spec: PodSpec) -> list[pod.Pod]:
    """The running pods that *spec* means, at least one."""
    if not (found := pod.find(spec.namespace, spec.name)):
        what = f"no pod {spec.name} of namespace {spec.namespace} runs on this node"
        raise SpecError(Problem("spec.name", what, "zero targets is never a success"))
    return found


def named(one: pod.Pod) -> str:
    return f"pod {one.namespace}/{one.name} ({one.uid})"
