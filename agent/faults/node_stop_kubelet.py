"""`node.stop_kubelet`: this node's kubelet stands still; its pods run on, and the cluster takes the node for lost."""

from __future__ import annotations

import re
import socket
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Page
from agent.faults.process_pause import PauseSpec, ProcessPause
from agent.system import proc
from protos.error import Problem, SpecError

_NAMED: Final = re.compile(r"--hostname-override[= ](\S+)")


Program = Annotated[
    str, Meta(min_length=1, max_length=15, description="name of the kubelet's process, one of the policy's `kubelets`")
]


class StopKubeletSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    program: Program = "kubelet"


class NodeStopKubelet(ProcessPause):
    """As `process.pause`, of the kubelet alone."""

    kind: ClassVar[str] = "node.stop_kubelet"
    spec: ClassVar[type[msgspec.Struct]] = StopKubeletSpec
    page: ClassVar[Page] = Page(
        does="The kubelet stands still: no check, no status, no lease. What runs in its pods goes on and serves.",
        mechanism="As `process.pause`: ptrace where that is allowed, else SIGSTOP.",
        proof="Every thread of the kubelet is in a stopped state in /proc and gains no processor time.",
        ends="As `process.pause`: the kernel or the holder lets it run again.",
        limits="Only a process whose name the node's policy lists (`kubelets`: kubelet, k3s, k3s-agent, k3s-server and "
        "kubelite by default) is taken for a kubelet. "
        "A service manager's watchdog may restart the kubelet meanwhile: the effect has then ended early. By "
        "default the control plane calls the node unknown after 40 to 50 s, and moves its pods after 300 s more.",
        example={},
        source="ptrace(2), signal(7); kube-controller-manager, --node-monitor-grace-period",
    )

    def plan(self, spec: StopKubeletSpec) -> list[Effect]:  # type: ignore[override]  # its own spec
        found = find(spec.program)
        node = node_of(found)
        effects = super().plan(PauseSpec(pid=found.pid, tree=False))
        for effect in effects:
            effect.description = f"{effect.description}, the kubelet of node {node}"
            effect.touches.nodes, effect.touches.kubelets = [node], [spec.program]
        return effects


def find(program: str) -> proc.Identity:
    """The node's one process of that name; SpecError if there is none, or more."""
    found = [one for pid in proc.pids() if (one := proc.identify(pid)) is not None and one.name == program]
    if len(found) != 1:
        what = f"{len(found)} processes of this node are called {program!r}"
        raise SpecError(Problem("spec.program", what, "there must be one; that of k3s is called k3s-agent"))
    return found[0]


def node_of(kubelet: proc.Identity) -> str:
    """The name under which its node is known: told to the kubelet, or the host's."""
    named = _NAMED.search(proc.command_line(kubelet.pid))
    return (named[1] if named else socket.gethostname()).lower()  # as the kubelet does
