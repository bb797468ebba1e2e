"""`pod.container_kill`: a signal, SIGKILL by default, to the first process of a pod's containers. Nothing to undo."""

from __future__ import annotations

import fnmatch
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import pod_target as target
from agent.faults.base import Effect, Page, Touched
from agent.faults.process_kill import ProcessKill
from agent.system import pod
from protos.error import Problem, SpecError


class ContainerKillSpec(target.PodSpec, kw_only=True, forbid_unknown_fields=True):
    container: Annotated[
        str, Meta(min_length=1, max_length=63, description="of the pods; may be a pattern; *: each of them")
    ] = "*"
    signal: Annotated[
        Literal["KILL", "TERM", "INT", "HUP", "QUIT", "ABRT", "SEGV"],
        Meta(description="signal sent; any but KILL does nothing to a program that did not ask for it"),
    ] = "KILL"
    gone_within_s: Annotated[
        float, Meta(gt=0, le=60, description="a process that catches the signal is given this long to end, seconds")
    ] = 5.0


class PodContainerKill(ProcessKill):
    """As `process.kill`, where the pod's control groups say which process is a container's first."""

    kind: ClassVar[str] = "pod.container_kill"
    spec: ClassVar[type[msgspec.Struct]] = ContainerKillSpec
    page: ClassVar[Page] = Page(
        does="A signal, SIGKILL by default, ends the first process of a pod's containers, as a crash does.",
        mechanism="pidfd_send_signal(2) to the first process of each container, which is found in /proc by its control "
        "group; the kernel ends the others of its process namespace.",
        proof="Each pidfd reports the exit, and /proc has none of the processes left.",
        ends="There is nothing to undo: the kubelet starts the container anew as the pod's restartPolicy says, later "
        "each time (CrashLoopBackOff), in the same pod and network namespace.",
        limits=target.LIMITS + "No PodDisruptionBudget is asked, as of any crash. "
        "The sandbox and its network stay. Where the pod's containers share one process "
        "namespace, a container's other processes are ended by the container runtime, which is not waited for.",
        example={"namespace": "encode", "name": "worker-*", "container": "main"},
        source="pidfd_send_signal(2), pid_namespaces(7); kubernetes.io, Pod Lifecycle",
    )

    def missing(self) -> str:
        return pod.missing()

    def plan(self, spec: ContainerKillSpec) -> list[Effect]:  # type: ignore[override]  # its own spec
        found = [
            self._effect(one, container, spec)
            for one in target.resolve(spec)
            for container in one.containers
            if spec.container == "*" or fnmatch.fnmatchcase(container.name, spec.container)
        ]
        if not found:
            what = f"no container {spec.container} runs in pod {spec.name} of namespace {spec.namespace}"
            raise SpecError(Problem("spec.container", what, "zero targets is never a success"))
        return found

    def _effect(self, one: pod.Pod, container: pod.Container, spec: ContainerKillSpec) -> Effect:
        name = container.name or container.id[:12]
        return Effect(
            fault=self.kind,
            resource=f"container:{container.id}",
            description=f"SIG{spec.signal} to the first process of container {name} of {target.named(one)}",
            undo=self.undo,
            touches=Touched(processes=[container.first], namespaces=[one.namespace]),
            facts={
                "targets": msgspec.to_builtins([container.first]),
                "signal": f"SIG{spec.signal}",
                "gone_within_s": spec.gone_within_s,
            },
        )
