"""`network.reset`: established TCP connections are aborted: one end is sent a reset, the other end's calls fail.

It happens once and leaves nothing to undo. Invariant: only connections are aborted that stood when they were listed;
the agent's own, and those at the node's protected ports, never are.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults import scope, target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched
from agent.faults.once import OnceFault
from agent.system import proc, sock_diag
from agent.system.privilege import CAP_NET_ADMIN, has_capability
from agent.system.sock_diag import Connection
from protos.error import FaultError, Problem, SpecError

_REMOTES_MAX: Final = 1000  # the journal holds them, and the policy looks at each
_NAMED: Final = 3
_LOOK_S: Final = 0.5


class ResetSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which connections: those that fit all that is given."""

    peers: Annotated[list[str], Meta(description="addresses and networks at the other end; empty: all")] = []
    ports: Annotated[list[scope.Port], Meta(description="service ports, the peers' or this node's; empty: all")] = []
    owner: Annotated[
        target.ProcessSpec | None, Meta(description="only connections that these processes hold; null: anybody's")
    ] = None
    network_of: Annotated[
        target.ProcessSpec | None,
        Meta(description="the process whose network namespace is meant; null: the owner's, or else the agent's"),
    ] = None


class NetworkReset(OnceFault):
    """Confirmed when /proc lists none of the connections that were aborted any more."""

    kind: ClassVar[str] = "network.reset"
    spec: ClassVar[type[msgspec.Struct]] = ResetSpec
    page: ClassVar[Page] = Page(
        does="Established TCP connections are aborted: the peer is sent a reset, the owner's next call fails.",
        mechanism="SOCK_DESTROY over NETLINK_SOCK_DIAG, by addresses, ports and cookie: no later connection is hit.",
        proof="/proc/net/tcp and tcp6 of the namespace list none of the aborted sockets any more.",
        ends="There is nothing to undo: clients connect again or do not.",
        limits="It happens once, to the connections of that moment. On this node calls fail with ECONNABORTED, at the "
        "peer with ECONNRESET. TCP only. Spared are the agent's own connections and, in its namespace, those at the "
        "protected ports of the node's policy (SSH). A peer behind a cut never sees the reset.",
        example={"peers": ["10.0.0.12"], "ports": [5432]},
        source="sock_diag(7); Linux 4.5, CONFIG_INET_DIAG_DESTROY",
    )

    def __init__(self) -> None:
        self._aborted: dict[str, list[Connection]] = {}

    def missing(self) -> str:
        return sock_diag.missing() if has_capability(CAP_NET_ADMIN) else "root (CAP_NET_ADMIN)"

    def plan(self, spec: ResetSpec) -> list[Effect]:
        network_of = spec.network_of or spec.owner
        facts = scope.resolve(scope.Scope(peers=spec.peers, ports=spec.ports, network_of=network_of), everyone=True)
        owners = target.resolve(spec.owner) if spec.owner else []
        if spec.owner and spec.owner.tree:
            owners = [member for root in owners for member in proc.tree(root)]
        facts |= {"owners": msgspec.to_builtins(owners), "owned": spec.owner is not None}
        found = _matching(facts)
        if not found:
            raise SpecError(Problem("spec", f"no established connection fits: {_words(facts)}", "zero is no success"))
        remotes = sorted({one.remote for one in found})
        if len(remotes) > _REMOTES_MAX:
            raise SpecError(Problem("spec.peers", f"{len(remotes)} peers are connected", "name those that are meant"))
        facts["remotes"] = remotes
        description = f"reset of {_words(facts)}: {_counted(found)} now, {_named(found)}"
        touches = Touched(addresses=remotes, ports=spec.ports) if scope.own_network(facts) else Touched()
        resource = f"connections:{facts['inode']}:{','.join(remotes)}:{','.join(map(str, sorted(spec.ports)))}"
        return [
            Effect(fault=self.kind, resource=resource, description=description, undo=self.undo, touches=touches,
                   facts=facts)
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        facts = effect.facts
        if not scope.there(facts):
            raise FaultError(f"{effect.description}: the network namespace is gone")
        lo_ns = time.monotonic_ns()
        try:
            aborted = await asyncio.to_thread(lambda: sock_diag.destroy(facts["network"], _matching(facts)))
        except OSError as error:
            raise FaultError(f"{effect.description}: the kernel refused: {error.strerror}") from error
        if not aborted:
            raise FaultError(f"{effect.description}: the connections had ended by themselves")
        self._aborted[effect.id] = aborted
        return Injected(lo_ns, time.monotonic_ns())

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        aborted = self._aborted.pop(effect.id, [])
        until = time.monotonic() + _LOOK_S
        left = await asyncio.to_thread(_still_listed, effect.facts, aborted)
        while left and time.monotonic() < until:
            await asyncio.sleep(0.01)
            left = await asyncio.to_thread(_still_listed, effect.facts, left)
        text = f"{_counted(aborted)} aborted; /proc lists {len(left)} of them"
        confirmed = bool(aborted) and not left
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def _matching(facts: dict[str, Any]) -> list[Connection]:
    """The connections that fit now, without the agent's own (both ends) and those at spared ports."""
    try:
        every = sock_diag.connections(facts["network"])
    except OSError as error:
        raise FaultError(f"cannot list connections: {error.strerror}") from error
    own = _own(facts)
    spared = {(one.local, one.local_port, one.remote, one.remote_port) for one in every if one.inode in own}
    spared |= {(remote, to, local, at) for local, at, remote, to in spared}
    networks = [ipaddress.ip_network(peer) for peer in facts["peers"]]
    remotes, ports = facts.get("remotes"), set(facts["ports"])
    kept = set(facts.get("spared_ports", ()))
    owned: set[int] | None = None
    if facts["owned"]:
        identities = msgspec.convert(facts["owners"], list[proc.Identity])
        owned = {inode for one in identities if proc.alive(one) for inode in _inodes(one.pid)}
    return [
        one for one in every
        if (one.local, one.local_port, one.remote, one.remote_port) not in spared
        and one.local_port not in kept
        and (owned is None or one.inode in owned)
        and (not ports or ports & {one.local_port, one.remote_port})
        and (remotes is None or one.remote in remotes)
        and any(ipaddress.ip_address(one.remote) in network for network in networks)
    ]  # fmt: skip


def _own(facts: dict[str, Any]) -> set[int]:
    """Inodes of the agent's own sockets, where they are in the namespace that is meant."""
    return _inodes(os.getpid()) if scope.own_network(facts) else set()


def _inodes(pid: int) -> set[int]:
    """Inodes of the sockets that a process holds; empty when it is gone."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                link = str(descriptor.readlink())
                if link.startswith("socket:["):
                    found.add(int(link[8:-1]))
    return found


def _still_listed(facts: dict[str, Any], aborted: list[Connection]) -> list[Connection]:
    """Those of *aborted* that /proc lists; all of them where it cannot be read."""
    place = f"/proc/{facts['root']['pid']}/net" if facts["root"] else "/proc/self/net"
    rows: set[tuple[str, int, str, int, int]] = set()
    try:
        for name in ("tcp", "tcp6"):
            if (file := Path(place, name)).exists():
                rows.update(sock_diag.listed(file.read_text(encoding="ascii")))
    except OSError:
        return aborted
    return [
        one for one in aborted if (one.local, one.local_port, one.remote, one.remote_port, one.inode) in rows
    ]  # fmt: skip


def _words(facts: dict[str, Any]) -> str:
    whose = "".join(f" of {owner['name']} (pid {owner['pid']})" for owner in facts["owners"][:1])
    peers = "anybody" if set(facts["peers"]) == set(scope.EVERYONE) else ", ".join(facts["peers"])
    ports = f", ports {', '.join(map(str, facts['ports']))}" if facts["ports"] else ""
    return f"connections{whose} with {peers}{ports}"


def _counted(found: list[Connection]) -> str:
    return f"{len(found)} {'end' if len(found) == 1 else 'ends'} of connections"


def _named(found: list[Connection]) -> str:
    names = [f"{_pair(one.local, one.local_port)} to {_pair(one.remote, one.remote_port)}" for one in found[:_NAMED]]
    return ", ".join([*names, *(["…"] if len(found) > _NAMED else [])])


def _pair(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
