"""The cluster of a set of test services: a control plane in the switch, real nodes on hosts of the set, and objects.

Invariant: as for the hosts, nothing of it outlives the process that holds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import msgspec
import yaml
from msgspec import Meta

from blackstart.local import switch
from blackstart.local.cluster import build, kubelet
from blackstart.local.cluster.plane import Plane, Settings
from protos.error import BlackstartError

if TYPE_CHECKING:
    from types import TracebackType

    from blackstart.local.namespace import Testbed

ADDRESS: Final = "10.77.0.253"  # of the API server: not the controller's, so that one can be cut without the other
FOLDER: Final = "cluster"  # in the set's state
_SERVE_S: Final = 90
_LOOK_S: Final = 0.2


class ClusterPart(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """*nodes*: hosts that get a kubelet; *flags*: further ones by program; *kubelet*: laid over its configuration.

    *objects*: what is applied once the nodes are ready; its Deployments are waited for. All but *nodes* are templates.
    """

    nodes: Annotated[list[str], Meta(min_length=1)]
    flags: dict[str, list[str]] = {}
    kubelet: dict[str, Any] = {}
    objects: str = ""

    def filled(self, fill: Callable[[str], str]) -> ClusterPart:
        """As described, with what *fill* makes of each text; of the kubelet's, numbers and truths stay such."""
        flags = {name: [fill(flag) for flag in flags] for name, flags in self.flags.items()}
        kubelet = {name: yaml.safe_load(fill(json.dumps(value))) for name, value in self.kubelet.items()}
        kubelet = {name: yaml.safe_load(one) if isinstance(one, str) else one for name, one in kubelet.items()}
        return ClusterPart(nodes=self.nodes, flags=flags, kubelet=kubelet, objects=fill(self.objects))


def missing() -> list[str]:
    """What this machine lacks, in words."""
    return [told for told in (build.missing(), kubelet.missing()) if told]


def environment(state: Path) -> dict[str, str]:
    """Where clients find the cluster of the set whose state is *state*; empty where it has none."""
    config = state.absolute() / FOLDER / "admin.kubeconfig"
    if not config.exists():
        return {}
    folder = (state / FOLDER / "bin").absolute()
    return {"KUBECONFIG": str(config), "PATH": f"{folder}:{os.environ.get('PATH', '')}"}


class ClusterBed:
    """Running from `with` on. *say* hears one line a step."""

    def __init__(self, part: ClusterPart, bed: Testbed, state: Path, say: Callable[[str], None]) -> None:
        self._part, self._bed, self._say = part, bed, say
        self._folder = state / FOLDER

    def __enter__(self) -> Self:
        programs = build.programs()
        self._kubectl = str(programs["kubectl"])
        settings = Settings(ADDRESS, False, {name: tuple(flags) for name, flags in self._part.flags.items()})
        chosen = kubelet.Settings(self._part.kubelet)
        switch.configure(f"address replace {ADDRESS}/24 dev {switch.BRIDGE}")
        with contextlib.ExitStack() as held:
            self.plane = held.enter_context(Plane(programs, self._folder, settings, self._say))
            (self._folder / "bin").mkdir()
            (self._folder / "bin" / "kubectl").symlink_to(programs["kubectl"])
            names = self._part.nodes
            self.nodes = kubelet.Nodes(self.plane, programs, self._bed, names, settings=chosen, say=self._say)
            held.callback(self.nodes.close)
            if self._part.objects:
                self._call("apply", "-f", "-", text=self._part.objects)
                self._await()
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def ready(self) -> bool:
        """Whether every node is ready, and every Deployment has all its replicas."""
        return all(map(self.nodes.ready, self.nodes.nodes)) and not self._unready()

    def _await(self) -> None:
        self._say("waiting for the objects of the set")
        until = time.monotonic() + _SERVE_S
        while left := self._unready():
            if time.monotonic() > until:
                raise BlackstartError(f"after {_SERVE_S} s these Deployments are not available: {left}")
            time.sleep(_LOOK_S)
        self._say("the objects of the set are there")

    def _unready(self) -> str:
        """Namespace/name of the Deployments that lack replicas."""
        form = (
            "{range .items[*]}{.metadata.namespace}/{.metadata.name} {.spec.replicas} {.status.updatedReplicas} "
            '{.status.availableReplicas} {.status.replicas}{"\\n"}{end}'
        )
        rows = (line.split() for line in self._call("get", "deployments", "-A", f"-o=jsonpath={form}").splitlines())
        return " ".join(row[0] for row in rows if len(set(row[1:])) != 1 or len(row) != 5)

    def _call(self, *arguments: str, text: str | None = None) -> str:
        command = [self._kubectl, f"--kubeconfig={self.plane.admin}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=_SERVE_S)
        if done.returncode:
            raise BlackstartError(f"kubectl {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout
