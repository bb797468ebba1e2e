"""The pods that run on this node, as /proc and the kubelet's own folders show them: no API server is asked.

A pod is known by its UID, which its processes bear in the names of their control groups. Its sandbox holds the pod's
network namespace, and stays while containers come and go: the process that came first, of those that are none of a
container with a log. A runtime may do without one (CRI-O, where no process namespace is shared): the oldest
container's first process then stands for it, and is a container all the same.
Source: Kubernetes' pkg/kubelet/kuberuntime (BuildPodLogsDirectory, LogSymlink) and cm (pod control group names).
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent.system import proc

# kubepods/burstable/podUID/ID, or with systemd kubepods-burstable-podU_I_D.slice/cri-containerd-ID.scope
_GROUP: Final = re.compile(
    r"pod([0-9a-f]{8}[-_]?(?:[0-9a-f]{4}[-_]?){3}[0-9a-f]{12})(?:\.slice)?/(?:[a-z-]+-)?([0-9a-f]{64})"
)
_PLACES: Final = (Path("/var/log"), Path("/proc/1/root/var/log"))  # the second: from a pod that sees the node's pid 1


class Container(msgspec.Struct, frozen=True):
    id: str
    name: str  # empty where the kubelet's links do not tell
    first: proc.Identity


class Pod(msgspec.Struct, frozen=True):
    """One pod with at least one process. *containers*: those beside the sandbox, the oldest first."""

    namespace: str
    name: str
    uid: str
    sandbox: proc.Identity
    containers: list[Container]


def missing() -> str:
    """What this node lacks to have pods, in words."""
    return "" if _logs("pods") is not None else "a kubelet's folder /var/log/pods (in a pod: hostPID, or a mount of it)"


def find(namespace: str, name: str) -> list[Pod]:
    """The running pods of *namespace* whose names match the pattern *name*, by name."""
    named = [one for one in _named() if one[0] == namespace and fnmatch.fnmatchcase(one[1], name)]
    groups = _groups() if named else {}
    found = [_pod(*one, groups[one[2]]) for one in named if one[2] in groups]
    return sorted(found, key=lambda pod: (pod.name, pod.uid))


def _pod(namespace: str, name: str, uid: str, groups: dict[str, list[proc.Identity]]) -> Pod:
    first = {id_: min(members, key=lambda one: (one.start, one.pid)) for id_, members in groups.items()}
    order = sorted(first, key=lambda id_: (first[id_].start, first[id_].pid))
    names = _container_names(namespace, name)
    sandbox = next((id_ for id_ in order if id_ not in names), order[0])
    return Pod(
        namespace, name, uid, first[sandbox],
        [Container(id_, names.get(id_, ""), first[id_]) for id_ in order if id_ != sandbox or id_ in names],
    )  # fmt: skip


def _named() -> Iterator[tuple[str, str, str]]:
    """Namespace, name and UID of the pods that the kubelet keeps logs of, ended ones among them."""
    folder = _logs("pods")
    for entry in sorted(os.listdir(folder)) if folder else ():
        parts = entry.split("_")
        if len(parts) == 3:
            yield parts[0], parts[1], parts[2]


def _groups() -> dict[str, dict[str, list[proc.Identity]]]:
    """The processes of each container of each pod: UID -> container id -> processes."""
    found: dict[str, dict[str, list[proc.Identity]]] = {}
    for pid in proc.pids():
        with contextlib.suppress(OSError):
            match = _GROUP.search(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"))
            if match and (identity := proc.identify(pid)) is not None:
                uid = match[1].replace("_", "-")
                found.setdefault(uid, {}).setdefault(match[2], []).append(identity)
    return found


def _container_names(namespace: str, name: str) -> dict[str, str]:
    """Container id -> name, by the links POD_NAMESPACE_CONTAINER-ID.log."""
    folder, start = _logs("containers"), f"{name}_{namespace}_"
    found = {}
    for entry in os.listdir(folder) if folder else ():
        if entry.startswith(start) and entry.endswith(".log"):
            container, _, id_ = entry.removeprefix(start).removesuffix(".log").rpartition("-")
            found[id_] = container
    return found


def _logs(kind: str) -> Path | None:
    return next((path for place in _PLACES if os.path.isdir(path := place / kind)), None)  # noqa: PTH112 - denied: no
