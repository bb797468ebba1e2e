"""Real nodes: hosts of a testbed with containerd, a kubelet and kube-proxy, whose pods run and serve.

A node has its own network, mounts, processes and control group on this machine's kernel and clock. Its pods have the
addresses that the control plane gave the node, and every other node has a route to them.

Invariant: what a node runs ends with its host, and so with the owner of the testbed at the latest; its control group is
removed with it, or by the next owner (`cgroup.sweep`).
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from blackstart.local import switch
from blackstart.local.cluster import cgroup, image
from blackstart.local.cluster.plane import PODS, READY_S, Plane
from blackstart.local.member import Member, wait_for
from blackstart.local.namespace import Host, Testbed
from protos.error import BlackstartError, RefusedError

SOCKET: Final = "/run/containerd/containerd.sock"
PAUSE: Final = "blackstart.invalid/pause:1"
BUSYBOX: Final = "blackstart.invalid/busybox:1"  # what tests and examples run
PROGRAMS: Final = {
    "containerd": "containerd", "ctr": "containerd", "runc": "runc", "nft": "nftables", "conntrack": "conntrack",
    "mount": "mount",
}  # fmt: skip
_PLUGINS: Final = Path("/usr/lib/cni")  # Debian's place
_CALL_S: Final = 60.0
_UNUSED: Final = ("snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.devmapper", "internal.v1.opt")
# What is fixed in the programs or shared by default lies in the node's own mounts.
_MOUNTS: Final = """
set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind {folder}/lib /var/lib
mount --bind {folder}/log /var/log
echo 1 > /proc/sys/net/ipv4/ip_forward
"""
_CONTAINERD: Final = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [{disabled}]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/run/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def missing() -> str:
    """What this machine lacks for real nodes, in words."""
    lacking = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if not (_PLUGINS / "bridge").exists():
        lacking.append("containernetworking-plugins")
    if lacking:
        return f"install {' '.join(lacking)}"
    return image.missing() or cgroup.missing()


@dataclass(frozen=True, slots=True)
class Settings:
    """*kubelet*: laid over its configuration. *labels* by node."""

    kubelet: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Node:
    """One node. `Nodes` makes them."""

    def __init__(self, host: Host, plane: Plane, programs: Mapping[str, Path], state: Path, settings: Settings) -> None:
        self.host, self.name, self.folder = host, host.name, state
        self._plane, self._programs, self._settings = plane, programs, settings
        self.members: dict[str, Member] = {}
        for part in ("lib/kubelet", "log"):
            (state / part).mkdir(parents=True, exist_ok=True)
        self.cgroup = cgroup.made(self.name)

    def again(self, host: Host) -> Node:
        """This node on a new *host*."""
        return Node(host, self._plane, self._programs, self.folder, self._settings)

    def start_runtime(self, images: Sequence[Path]) -> None:
        """The node's mounts, containerd, and what it can run."""
        self._run("sh", "-c", _MOUNTS.format(folder=shlex.quote(str(self.folder))))
        disabled = ", ".join(f'"io.containerd.{name}"' for name in _UNUSED)
        content = _CONTAINERD.format(socket=SOCKET, pause=PAUSE, plugins=_PLUGINS, disabled=disabled)
        (self.folder / "containerd.toml").write_text(content, encoding="utf-8")
        self._spawn("containerd", ["containerd", "--config", str(self.folder / "containerd.toml")])
        ready = ["ctr", "--address", SOCKET, "version"]
        wait_for(lambda: self.host.run(ready).returncode == 0, self.members["containerd"], READY_S)
        for path in images:
            self._run("ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", str(path))

    def start_kubelet(self) -> None:
        """Also after it was stopped: the node registers, or goes on."""
        config = self._plane.kubeconfig(f"system:node:{self.name}", ("system:nodes",))
        path = self.folder / "kubelet.json"
        path.write_text(json.dumps(self._kubelet()), encoding="utf-8")
        labels = ",".join(f"{key}={value}" for key, value in self._settings.labels.get(self.name, {}).items())
        self._spawn("kubelet", [
            str(self._programs["kubelet"]), f"--config={path}", f"--kubeconfig={config}",
            f"--hostname-override={self.name}", f"--node-ip={self.host.address}", "--root-dir=/var/lib/kubelet",
            *([f"--node-labels={labels}"] if labels else []),
        ])  # fmt: skip

    def join(self, subnet: str) -> None:
        """The network of its pods, once the control plane has given the node its addresses."""
        bridge = {
            "type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }  # fmt: skip
        content = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]}
        path = self.folder / "pods.conflist"
        path.write_text(json.dumps(content), encoding="utf-8")
        self._run("sh", "-c", f"mkdir -p /run/cni && cp {shlex.quote(str(path))} /run/cni/10-pods.conflist")

    def start_proxy(self) -> None:
        """Services, by nftables."""
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
            "clusterCIDR": PODS, "hostnameOverride": self.name,
            "clientConnection": {"kubeconfig": str(self._plane.kubeconfig("system:kube-proxy"))},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }  # fmt: skip
        path = self.folder / "kube-proxy.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        self._spawn("kube-proxy", [str(self._programs["kube-proxy"]), f"--config={path}"])

    def route(self, subnet: str, gateway: str) -> None:
        self._run("ip", "route", "replace", subnet, "via", gateway)

    def close(self) -> None:
        """Cuts the node's power, and removes its control group."""
        self.host.kill()
        for member in self.members.values():
            member.stop()
        cgroup.removed(self.cgroup)

    def _kubelet(self) -> dict[str, Any]:
        pair = self._plane.authority.issue(
            f"kubelet-{self.name}", f"system:node:{self.name}", ("system:nodes",), (self.name, self.host.address)
        )
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": str(self._plane.authority.pair.cert)}},
            "authorization": {"mode": "Webhook"}, "tlsCertFile": str(pair.cert), "tlsPrivateKeyFile": str(pair.key),
            "containerRuntimeEndpoint": f"unix://{SOCKET}", "cgroupDriver": "cgroupfs", "cgroupRoot": self.cgroup,
            "failSwapOn": False, "failCgroupV1": False, "makeIPTablesUtilChains": False, "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%",
                             "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100, "localStorageCapacityIsolation": False, "resolvConf": "",
            "volumePluginDir": "/var/lib/kubelet/plugins", "enableServer": True, **self._settings.kubelet,
        }  # fmt: skip

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        self.members[name] = Member(name, command, log=self.folder / f"{name}.log", host=self.host)

    def _run(self, *command: str) -> None:
        done = self.host.run(command, timeout_s=_CALL_S)
        if done.returncode:
            raise BlackstartError(f"node {self.name}: {' '.join(command)[:200]} failed: {done.stderr.strip()}")


class Nodes:
    """Real nodes of *plane*, which must listen on the switch's address. Ended by `close`, and with their testbed.

    Args:
        plane: which they join.
        programs: where each program is.
        bed: has a host of each of *names*.
        names: of the nodes.
        settings: of their kubelets.
        images: further archives, imported on each.
        say: told of each step.
    """

    def __init__(
        self, plane: Plane, programs: Mapping[str, Path], bed: Testbed, names: Sequence[str], *,
        settings: Settings | None = None, images: Sequence[Path] = (), say: Callable[[str], None] = lambda _line: None,
    ) -> None:  # fmt: skip
        if told := missing():
            raise RefusedError(f"no real nodes here: {told}")
        cgroup.sweep()
        self._plane, self._kubectl = plane, programs["kubectl"]
        folder = plane.state / "nodes"
        folder.mkdir(exist_ok=True)
        pause = image.archive(folder / "pause.tar", PAUSE, ["sleep", str(2**31 - 1)])
        busybox = image.archive(folder / "busybox.tar", BUSYBOX)
        chosen = settings or Settings()
        self.nodes: dict[str, Node] = {}
        self._subnets: dict[str, str] = {}
        with contextlib.ExitStack() as undo:  # what was started ends again where the rest does not start
            undo.callback(self.close)
            for name in names:
                self.nodes[name] = Node(bed.hosts[name], plane, programs, folder / name, chosen)
                self.nodes[name].start_runtime([pause, busybox, *images])
                self.nodes[name].start_kubelet()
                say(f"containerd and kubelet of {name} run")
            self._connect(say)
            undo.pop_all()

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()
        self.nodes.clear()

    def reboot(self, host: Host) -> None:
        """Brings a node back on *host*, which has lost its power and come back, with what it had on its disk."""
        old = self.nodes[host.name]
        for member in old.members.values():
            member.stop()
        self.nodes[host.name] = node = old.again(host)
        node.start_runtime([])
        node.join(self._subnets[host.name])
        node.start_kubelet()
        node.start_proxy()
        self._route(node)

    def object(self, name: str) -> dict[str, Any]:
        """The node as the API has it; empty if it has not."""
        command = [str(self._kubectl), f"--kubeconfig={self._plane.admin}", "get", "node", name, "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_CALL_S)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def ready(self, name: str) -> bool:
        conditions = self.object(name).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _route(self, node: Node) -> None:
        node.route("default", switch.ADDRESS)  # leads nowhere: but without one, addresses of services have no way out
        for name, subnet in self._subnets.items():
            if name != node.name:
                node.route(subnet, self.nodes[name].host.address)

    def _subnet(self, name: str) -> Any:
        return self.object(name).get("spec", {}).get("podCIDR")

    def _connect(self, say: Callable[[str], None]) -> None:
        subnets = self._subnets
        for name, node in self.nodes.items():
            subnets[name] = wait_for(partial(self._subnet, name), node.members["kubelet"], READY_S)
            node.join(subnets[name])
            node.start_proxy()
        for node in self.nodes.values():
            self._route(node)
        ways = [f"route replace {subnet} via {self.nodes[name].host.address}" for name, subnet in subnets.items()]
        switch.configure(*ways)  # to pods that ask the API server
        for name, node in self.nodes.items():
            wait_for(partial(self.ready, name), node.members["kubelet"], READY_S)
            say(f"{name} is ready")
