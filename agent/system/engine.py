"""The node's container engine (Docker, or Podman by the same API), and what the kernel says of its containers.

Invariant: a container is named by its full id, never by its name: a new one under an old name is another one.
Every call has a timeout and raises OSError only; none is made on an event loop's thread, but for planning.

The SDK is imported when it is first used: it takes 0.2 s and 20 MB.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from agent.system import proc

QUICK_S: Final = 5.0
_SOCKETS: Final = ("/var/run/docker.sock", "/run/podman/podman.sock")


class Container(NamedTuple):
    """A container as its engine describes it, and its first process as the kernel does."""

    id: str
    name: str
    image: str
    status: str  # running, paused, exited, …
    pid: int  # of its first process; 0 when it does not run
    started_at: str
    auto_remove: bool
    networks: dict[str, dict[str, Any]]  # by name: the engine's endpoint settings

    @property
    def first(self) -> proc.Identity | None:
        """Its first process, if the kernel here knows it as this container's."""
        identity = proc.identify(self.pid) if self.pid else None
        return identity if identity and self.id in cgroups(self.pid) else None


def missing() -> str:
    """What the node lacks to have containers, in words."""
    if importlib.util.find_spec("docker") is None:
        return "the Python package docker (pip install 'blackstart[docker]')"
    host = address()
    path = host.removeprefix("unix://")
    return f"a container engine ({path} is not there; DOCKER_HOST names another)" if _absent(host, path) else ""


def load() -> None:
    """Imports the SDK, which takes a while, before it is needed."""
    importlib.import_module("docker")


def _absent(host: str, path: str) -> bool:
    return host.startswith("unix://") and not Path(path).exists()


def address(asked: str = "") -> str:
    """Where the engine listens: as asked, as DOCKER_HOST says, or at the first usual place where something is."""
    if chosen := asked or os.environ.get("DOCKER_HOST", ""):
        return chosen
    rootless = os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), "docker.sock")
    return f"unix://{next((path for path in (*_SOCKETS, rootless) if Path(path).exists()), _SOCKETS[0])}"


class Engine:
    """One engine, for a while: `with Engine(address) as engine`."""

    def __init__(self, host: str, timeout_s: float = QUICK_S) -> None:
        import docker

        self._host = host
        _knock(host, timeout_s)
        with _translated(host):
            tls = docker.tls.TLSConfig if host.startswith("tcp://") and os.environ.get("DOCKER_TLS_VERIFY") else None
            if tls is None:
                self._api = docker.APIClient(base_url=host, timeout=timeout_s, version="auto")
            else:  # as DOCKER_CERT_PATH says
                self._api = docker.from_env(timeout=timeout_s).api

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()

    def containers(self, **filters: str) -> list[Container]:
        """Those that run or are paused, by the engine's own filters (`label`, `ancestor`)."""
        with _translated(self._host):
            rows = self._api.containers(filters=filters)
        return [found for row in rows if (found := self.find(row["Id"]))]

    def find(self, id_: str) -> Container | None:
        """The container of that id (or name, in a plan), or None when there is none any more."""
        try:
            with _translated(self._host):
                about = self._api.inspect_container(id_)
        except FileNotFoundError:
            return None
        state = about["State"]
        return Container(
            id=about["Id"], name=about["Name"].lstrip("/"), image=about["Config"]["Image"], status=state["Status"],
            pid=state["Pid"], started_at=state["StartedAt"], auto_remove=bool(about["HostConfig"].get("AutoRemove")),
            networks=about["NetworkSettings"]["Networks"] or {},
        )  # fmt: skip

    def kill(self, id_: str, signal: str) -> None:
        with _translated(self._host):
            self._api.kill(id_, signal)

    def pause(self, id_: str) -> None:
        with _translated(self._host):
            self._api.pause(id_)

    def unpause(self, id_: str) -> None:
        with _translated(self._host):
            self._api.unpause(id_)

    def stop(self, id_: str, grace_s: int) -> None:
        """SIGTERM (or the container's own stop signal), and SIGKILL after *grace_s*."""
        with _translated(self._host):
            self._api.stop(id_, timeout=grace_s)

    def start(self, id_: str) -> None:
        with _translated(self._host):
            self._api.start(id_)

    def restart(self, id_: str, grace_s: int) -> None:
        with _translated(self._host):
            self._api.restart(id_, timeout=grace_s)

    def disconnect(self, id_: str, network: str) -> None:
        with _translated(self._host):
            self._api.disconnect_container_from_network(id_, network)

    def connect(self, id_: str, network: str, *, ipv4: str = "", ipv6: str = "", **settings: Any) -> None:
        """Connects with fixed addresses where they are given, else with those that the engine chooses."""
        with _translated(self._host):
            self._api.connect_container_to_network(
                id_, network, ipv4_address=ipv4 or None, ipv6_address=ipv6 or None, **settings
            )

    def events(self, id_: str, names: Sequence[str], since_ns: int, until_ns: int) -> list[tuple[str, int]]:
        """What the engine itself tells of a container in a span of the wall clock: (event, wall ns), in order."""
        span = {"since": f"{since_ns / 1e9:.9f}", "until": f"{until_ns / 1e9:.9f}"}
        with _translated(self._host):
            rows = list(self._api.events(**span, filters={"event": list(names)}, decode=True))
        return [(str(row["Action"]), int(row["timeNano"])) for row in rows if id_ in _concerned(row)]

    def has_network(self, id_: str) -> bool:
        try:
            with _translated(self._host):
                self._api.inspect_network(id_)
        except FileNotFoundError:
            return False
        return True


def _concerned(row: dict[str, Any]) -> tuple[str, str]:
    """Whom an event is about: a container, or a network and the container at its end."""
    actor = row.get("Actor") or {}
    return str(actor.get("ID", "")), str((actor.get("Attributes") or {}).get("container", ""))


@contextlib.contextmanager
def _translated(host: str) -> Iterator[None]:
    """FileNotFoundError for what does not exist, else OSError with the engine's own words."""
    import docker
    import requests

    try:
        yield
    except docker.errors.NotFound as error:
        raise FileNotFoundError(2, f"the engine knows no such thing: {error.explanation}") from error
    except docker.errors.APIError as error:
        raise OSError(5, f"the engine says: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise OSError(111, f"the engine at {host} does not answer: {error}") from error


def _knock(host: str, timeout_s: float) -> None:
    """OSError where nobody listens: the SDK would say so too, and keep a socket open."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(timeout_s)
            try:
                door.connect(host.removeprefix("unix://"))
            except OSError as error:
                raise OSError(111, f"the engine at {host} does not answer: {error.strerror or error}") from error


def cgroups(pid: int) -> str:
    """/proc/PID/cgroup; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""


def is_frozen(pid: int) -> bool | None:
    """Whether the kernel keeps the cgroup of *pid* frozen; None when it cannot be told from here."""
    for line in cgroups(pid).splitlines():
        _, controllers, path = line.split(":", 2)
        if "freezer" in controllers.split(","):
            return _says(f"/sys/fs/cgroup/freezer{path}/freezer.state", "FROZEN")
        if not controllers and (answer := _says(f"/sys/fs/cgroup{path}/cgroup.events", "frozen 1")) is not None:
            return answer
    return None


def _says(path: str, words: str) -> bool | None:
    try:
        return words in Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return None


def interfaces(pid: int) -> set[str]:
    """Names of the network interfaces that the process sees; empty when it is gone."""
    try:
        rows = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    except OSError:
        return set()
    return {row.partition(":")[0].strip() for row in rows}


def has_address(pid: int, address: str) -> bool:
    """Whether *address*, IPv4 or IPv6, is one of the process's own."""
    folder = f"/proc/{pid}/net"
    try:
        if ":" in address:
            import ipaddress

            packed = ipaddress.ip_address(address).packed.hex()
            return packed in Path(folder, "if_inet6").read_text(encoding="ascii").split()
        rows = Path(folder, "fib_trie").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any(row.strip() == f"|-- {address}" and "host LOCAL" in below for row, below in itertools.pairwise(rows))
