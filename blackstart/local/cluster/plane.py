"""The control plane: etcd, the API server, its controllers, the scheduler, and KWOK for nodes without a kubelet.

Invariant: what was started is gone when the plane is closed, and when this process dies (`tether`). It listens on one
address alone, loopback by default. RBAC is on; etcd and the API server speak TLS with client certificates, and KWOK's
health check, which tells nothing else, plain HTTP.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from blackstart.local.cluster import build
from blackstart.local.cluster.certificate import Authority, Pair, kubeconfig
from blackstart.local.member import Member, wait_for

if TYPE_CHECKING:
    from types import TracebackType

READY_S: Final = 60.0
STAGES: Final = build.ROOT / "stages.yaml"  # what KWOK plays
PODS: Final = "10.244.0.0/16"
SERVICES: Final = "10.96.0.0/16"
KUBERNETES: Final = "10.96.0.1"  # the service by which pods find the API server
FAKE: Final = "kwok.x-k8s.io/node=fake"  # the annotation of nodes that KWOK plays


@dataclass(frozen=True, slots=True)
class Settings:
    """*extra*: further flags by program; they come last, and so win."""

    address: str = "127.0.0.1"
    fake_nodes: bool = True
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Plane:
    """A control plane with its files in *state*. *programs*: where each program is."""

    def __init__(
        self, programs: Mapping[str, Path], state: Path, settings: Settings | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:  # fmt: skip
        self._programs, self.state, self._settings, self._say = programs, state, settings or Settings(), say
        self.members: dict[str, Member] = {}
        (state / "log").mkdir(parents=True, exist_ok=True, mode=0o700)
        self.ports = dict(zip(_PORTS, free_ports(len(_PORTS), self._settings.address), strict=True))
        self.server = f"https://{self._settings.address}:{self.ports['api']}"
        self._issue()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:  # what was started goes again where the rest does not start
            undo.callback(self.close)
            self._start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops everything, the API server before its store."""
        for member in reversed(self.members.values()):
            member.stop()
        self.members.clear()

    def kubeconfig(self, name: str, groups: tuple[str, ...] = ()) -> Path:
        """A kubeconfig for the user *name*, made at its first use."""
        path = self.state / f"{name.replace(':', '-')}.kubeconfig"
        if not path.exists():
            pair = self.authority.issue(f"user-{name.replace(':', '-')}", name, groups)
            kubeconfig(path, self.server, self.authority, pair)
        return path

    def _issue(self) -> None:
        """Certificates and kubeconfigs."""
        address = self._settings.address
        self.authority = authority = Authority(self.state / "pki")
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        self._etcd = authority.issue("etcd", "etcd", hosts=(address, "localhost"))
        self._api = authority.issue("api", "kube-apiserver", hosts=(address, "localhost", KUBERNETES, *names))
        self._to_kubelets = authority.issue("to-kubelets", "kube-apiserver", ("system:masters",))
        self._front = authority.issue("front", "front-proxy")
        self._accounts = authority.service_accounts()
        self.admin = self.kubeconfig("admin", ("system:masters",))
        self._controllers = self.kubeconfig("system:kube-controller-manager")
        self._scheduling = self.kubeconfig("system:kube-scheduler")
        self._playing = self.kubeconfig("kwok", ("system:masters",))

    def _start(self) -> None:
        self._run("etcd", self._etcd_flags())
        self._await("etcd", f"https://{self._settings.address}:{self.ports['etcd']}/health", self._etcd)
        self._run("kube-apiserver", self._api_flags())
        admin = Pair(self.state / "pki" / "user-admin.pem", self.state / "pki" / "user-admin-key.pem")
        self._await("kube-apiserver", f"{self.server}/readyz", admin)
        self._run("kube-controller-manager", self._controller_flags())
        self._run("kube-scheduler", self._scheduler_flags())
        for name in ("controllers", "scheduler"):
            url = f"https://{self._settings.address}:{self.ports[name]}/healthz"
            self._await({"controllers": "kube-controller-manager", "scheduler": "kube-scheduler"}[name], url, None)
        if self._settings.fake_nodes:
            self._run("kwok", self._kwok_flags())
            self._await("kwok", f"http://{self._settings.address}:{self.ports['kwok']}/healthz", None)

    def _etcd_flags(self) -> list[str]:
        client = f"https://{self._settings.address}:{self.ports['etcd']}"
        peer = f"https://{self._settings.address}:{self.ports['etcd_peer']}"
        tls = [
            flag for prefix in ("", "peer-")
            for flag in (f"--{prefix}cert-file={self._etcd.cert}", f"--{prefix}key-file={self._etcd.key}",
                         f"--{prefix}trusted-ca-file={self.authority.pair.cert}", f"--{prefix}client-cert-auth=true")
        ]  # fmt: skip
        return [
            "--name=testcluster", f"--data-dir={self.state / 'etcd'}", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=testcluster={peer}", "--unsafe-no-fsync", *tls,  # a test's data need no disk
        ]  # fmt: skip

    def _api_flags(self) -> list[str]:
        address, ca = self._settings.address, self.authority.pair.cert
        return [
            f"--etcd-servers=https://{address}:{self.ports['etcd']}", f"--etcd-cafile={ca}",
            f"--etcd-certfile={self._etcd.cert}", f"--etcd-keyfile={self._etcd.key}",
            f"--bind-address={address}", f"--secure-port={self.ports['api']}",
            f"--advertise-address={address}", *(_NO_ENDPOINT if address.startswith("127.") else ()),
            f"--tls-cert-file={self._api.cert}", f"--tls-private-key-file={self._api.key}", f"--client-ca-file={ca}",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self._accounts.cert}",
            f"--service-account-signing-key-file={self._accounts.key}", f"--service-cluster-ip-range={SERVICES}",
            f"--kubelet-client-certificate={self._to_kubelets.cert}", f"--kubelet-client-key={self._to_kubelets.key}",
            f"--requestheader-client-ca-file={ca}", "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-", f"--proxy-client-cert-file={self._front.cert}",
            f"--proxy-client-key-file={self._front.key}", "--allow-privileged=true", "--profiling=false",
            "--kubelet-preferred-address-types=InternalIP",
        ]  # fmt: skip

    def _controller_flags(self) -> list[str]:
        ca = self.authority.pair
        return [
            *self._as(self._controllers, "controllers"), "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._accounts.key}", f"--root-ca-file={ca.cert}",
            f"--cluster-signing-cert-file={ca.cert}", f"--cluster-signing-key-file={ca.key}",
            f"--cluster-cidr={PODS}", "--allocate-node-cidrs=true", "--node-cidr-mask-size=24",
            f"--service-cluster-ip-range={SERVICES}",
        ]  # fmt: skip

    def _scheduler_flags(self) -> list[str]:
        return self._as(self._scheduling, "scheduler")

    def _as(self, config: Path, port: str) -> list[str]:
        """Flags of a program that works with the API server, alone."""
        return [
            f"--kubeconfig={config}", f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
            f"--bind-address={self._settings.address}", f"--secure-port={self.ports[port]}", "--leader-elect=false",
            "--profiling=false", f"--tls-cert-file={self._api.cert}", f"--tls-private-key-file={self._api.key}",
        ]  # fmt: skip

    def _kwok_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self._playing}", f"--config={STAGES}", "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE}",
            f"--server-address={self._settings.address}:{self.ports['kwok']}", "--node-lease-duration-seconds=40",
        ]  # fmt: skip

    def _run(self, name: str, flags: list[str]) -> None:
        command = [str(self._programs[name]), *flags, *self._settings.extra.get(name, ())]
        self.members[name] = Member(name, command, log=self.state / "log" / f"{name}.log")

    def _await(self, name: str, url: str, user: Pair | None) -> None:
        context = ssl.create_default_context(cafile=str(self.authority.pair.cert))
        if user is not None:
            context.load_cert_chain(user.cert, user.key)

        def ready() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=2, context=context) as answer:  # noqa: S310 - ours
                    return bool(answer.status == 200)
            except urllib.error.HTTPError as error:
                error.close()
            except OSError:
                pass
            return False

        wait_for(ready, self.members[name], READY_S)
        self._say(f"{name} is ready")


_NO_ENDPOINT: Final = ("--endpoint-reconciler-type=none",)  # an address of loopback cannot be one of a service
_PORTS: Final = ("etcd", "etcd_peer", "api", "controllers", "scheduler", "kwok")


def free_ports(count: int, address: str) -> list[int]:
    """Ports of *address* that nobody listens on now."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            one = held.enter_context(socket.socket())
            one.bind((address, 0))
            found.append(int(one.getsockname()[1]))
        return found
