"""An owned nftables table that sends chosen packets to queues, built by hand on the owner's own netlink socket.

`nft` cannot write the rule where the kernel lacks its `queue` expression (CONFIG_NFT_QUEUE) and has only the older
NFQUEUE target: hence the target through nft_compat first, the native expression else. Owned tables of the families `ip`
and `ip6` go, whole, when the socket closes: rule and queue end with one process, however it ends. Both forms say
`bypass`: with nobody at the queue, packets pass.

Source: linux/netfilter/nf_tables.h, nf_tables_compat.h, xt_NFQUEUE.h, nfnetlink.h.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from agent.system import netlink, queue_sender
from agent.system.netlink import attribute, big, nested, text

HOOKS: Final = {"input": 1, "forward": 2, "output": 3}
FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}  # `ip` and `ip6`: compatible targets know no `inet`
SIDES: Final = ("in", "out", "sent")  # sent: what of out is TCP of this node itself, where a queue takes it apart
PARTS: Final = 100_000  # fractions are sampled in parts of this

_SUBSYSTEM: Final = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _DELETE_RULE = 0x0A00, 0x0A03, 0x0A06, 0x0A08
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_OWNED: Final = 2
_EQUAL, _LESS = 0, 2
_ACCEPT, _GOTO = 1, -4
_META_MARK, _META_IN, _META_OUT, _META_PROTOCOL = 3, 6, 7, 16
_NETWORK, _TRANSPORT = 1, 2  # header bases
_BYPASS: Final = 1
_PROTOCOLS: Final = {"tcp": (6, 6), "udp": (17, 17), "icmp": (1, 58)}  # IPv4, IPv6


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which packets go to which queue."""

    table: str
    numbers: dict[str, int]  # side -> number of its queue; a side without one is left alone
    peers: list[str]  # networks
    protocol: str = "any"
    ports: list[int] = field(default_factory=list)  # the peers' or this node's own
    spared_ports: list[int] = field(default_factory=list)  # this node's own TCP ports that are never touched
    spare_loopback: bool = False
    mark: int = 0  # packets with this mark pass: the holder's own
    priority: int = -150  # of the chains; the later, the more other rules a packet has passed
    fraction: float = 1.0  # sampled in the kernel: the rest never leaves it


def sides(direction: str) -> tuple[str, ...]:
    """The sides of a scope's direction."""
    return ("in", "out") if direction == "both" else (direction,)


def commit(channel: socket.socket, selection: Selection) -> None:
    """Puts the table in force on *channel*, which owns it from now on. OSError when the kernel cannot."""
    failure: OSError | None = None
    for native in (False, True):
        try:
            _send(channel, _messages(selection, native=native))
        except OSError as error:
            failure = failure or error
        else:
            return
    assert failure is not None
    raise failure


def clear(channel: socket.socket, table: str) -> None:
    """Takes the rules out of a table that *channel* owns, and leaves its chains.

    The kernel drops what waits in any queue of the namespace when a chain goes: so the rules go first, and no packet
    comes any more while those that are there are let through.
    """
    for family in FAMILIES.values():
        head = struct.pack("!BBH", family, 0, 0) + text(1, table)
        with contextlib.suppress(OSError):  # no table of that family
            _send(channel, [netlink.message(_DELETE_RULE, netlink.REQUEST | netlink.ACK, head)])


def missing() -> str:
    """What the kernel lacks, by having it check such a table without making it; empty when it lacks nothing."""
    selection = Selection(table="blackstart_probe", numbers={"in": 65535}, peers=["127.0.0.1/32"], fraction=0.5)
    failure: OSError | None = None
    for native in (False, True):
        with netlink.open_socket(netlink.NETFILTER) as channel:
            try:
                _send(channel, _messages(selection, native=native), dry=True)
            except OSError as error:
                failure = failure or error
            else:
                return ""
    return f"nftables rules to NFQUEUE (CONFIG_NETFILTER_XT_TARGET_NFQUEUE or CONFIG_NFT_QUEUE: {failure})"


def _send(channel: socket.socket, messages: list[bytes], *, dry: bool = False) -> None:
    """One transaction; without its end (*dry*) the kernel checks all of it and forgets it."""
    fence = struct.pack("!BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM)
    begin = netlink.message(_BATCH_BEGIN, netlink.REQUEST, fence)
    end = b"" if dry else netlink.message(_BATCH_END, netlink.REQUEST, fence)
    channel.send(begin + b"".join(messages) + end)
    netlink.answers(channel, len(messages))


def _messages(selection: Selection, *, native: bool) -> list[bytes]:
    peers = [ipaddress.ip_network(peer) for peer in selection.peers]
    found: list[bytes] = []
    for version in sorted({peer.version for peer in peers}):
        own = [peer for peer in peers if peer.version == version]
        found += _Table(selection, version, native=native).messages(own)
    return found


class _Table:
    """The messages that make one family's table: a chain a side, and base chains that go to them."""

    def __init__(self, selection: Selection, version: int, *, native: bool) -> None:
        self._selection, self._version, self._native = selection, version, native

    def messages(self, peers: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> list[bytes]:
        asked = self._selection
        name = text(1, asked.table)
        sides = [side for side in SIDES if side in asked.numbers]
        found = [self._message(_NEW_TABLE, name + big(2, _OWNED))]
        found += [self._message(_NEW_CHAIN, name + text(3, side)) for side in sides]
        found += [self._rule(side, rule) for side in sides for rule in self._queueing(side)]
        for hook, number in HOOKS.items():
            passing = self._passing(hook)
            if not passing:
                continue
            place = nested(4, big(1, number), big(2, asked.priority))
            chain = name + text(3, hook) + place + big(5, _ACCEPT) + text(7, "filter")
            found.append(self._message(_NEW_CHAIN, chain))
            found += [self._rule(hook, spared) for spared in self._spared(hook)]
            found += [
                self._rule(hook, [*match, _verdict(_GOTO, side)])
                for side in passing
                for peer in peers
                for match in self._matches(peer, side)
            ]
        return found

    def _passing(self, hook: str) -> list[str]:
        """The sides that packets at a hook may belong to."""
        own = "sent" if "sent" in self._selection.numbers else "out"
        sides = {"input": ("in",), "forward": ("in", "out"), "output": (own,)}[hook]
        return [side for side in sides if side in self._selection.numbers]

    def _spared(self, hook: str) -> Iterator[list[bytes]]:
        """What passes first: the holder's own packets, protected services, loopback."""
        asked, accept = self._selection, _verdict(_ACCEPT)
        resent, mask = struct.pack("=I", queue_sender.RESENT), struct.pack("=I", queue_sender.CLASS_MASK)
        yield [_meta(_META_MARK), _mask(mask), _compare(resent), accept]
        if asked.mark:
            yield [_meta(_META_MARK), _compare(struct.pack("=I", asked.mark)), accept]
        if asked.spare_loopback:
            name = b"lo".ljust(16, b"\0")
            yield [_meta(_META_OUT if hook == "output" else _META_IN), _compare(name), accept]
        if hook != "forward":
            offset = 2 if hook == "input" else 0
            for port in asked.spared_ports:
                yield [*_protocol(6), *_port(offset, port), accept]

    def _matches(self, peer: ipaddress.IPv4Network | ipaddress.IPv6Network, side: str) -> Iterator[list[bytes]]:
        asked = self._selection
        offset, length = {4: (12, 4), 6: (8, 16)}[self._version]
        address = [
            *([_payload(_NETWORK, offset + (0 if side == "in" else length), length)] if peer.prefixlen else []),
            *([_mask(peer.netmask.packed)] if 0 < peer.prefixlen < peer.max_prefixlen else []),
            *([_compare(peer.network_address.packed)] if peer.prefixlen else []),
        ]
        if asked.ports:
            for name in ("tcp", "udp") if asked.protocol == "any" else (asked.protocol,):
                for port in asked.ports:
                    for where in (0, 2):
                        yield [*address, *_protocol(_PROTOCOLS[name][0]), *_port(where, port)]
        elif asked.protocol == "any":
            yield address
        else:
            yield [*address, *_protocol(_PROTOCOLS[asked.protocol][self._version == 6])]

    def _queueing(self, side: str) -> Iterator[list[bytes]]:
        """The rules of a side's chain. Packets that bear another's mark are not this process's to send again."""
        numbers = self._selection.numbers
        if side == "sent":
            yield [*_protocol(6), _meta(_META_MARK), _compare(bytes(4)), *self._taking(numbers[side])]
        yield self._taking(numbers["out" if side == "sent" else side])

    def _taking(self, number: int) -> list[bytes]:
        """Counts what matched, takes its fraction, counts what was taken, sends it to the queue."""
        sample: list[bytes] = []
        if self._selection.fraction < 1:
            taken = struct.pack("!I", round(self._selection.fraction * PARTS))
            sample = [
                _expression("numgen", big(1, 1), big(2, PARTS), big(3, 1)),
                _expression("byteorder", big(1, 1), big(2, 1), big(3, 1), big(4, 4), big(5, 4)),
                _compare(taken, _LESS),
                _expression("counter"),
            ]
        return [_expression("counter"), *sample, _native(number) if self._native else _compatible(number)]

    def _rule(self, chain: str, expressions: list[bytes]) -> bytes:
        listed = nested(4, *(nested(1, one) for one in expressions))
        return self._message(_NEW_RULE, text(1, self._selection.table) + text(2, chain) + listed, netlink.APPEND)

    def _message(self, kind: int, body: bytes, flags: int = netlink.EXCLUSIVE) -> bytes:
        head = struct.pack("!BBH", FAMILIES[self._version], 0, 0)
        return netlink.message(kind, netlink.REQUEST | netlink.ACK | netlink.CREATE | flags, head + body)


def _expression(name: str, *attributes: bytes) -> bytes:
    return text(1, name) + nested(2, *attributes)


def _meta(key: int) -> bytes:
    return _expression("meta", big(1, 1), big(2, key))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", big(1, 1), big(2, base), big(3, offset), big(4, length))


def _mask(mask: bytes) -> bytes:
    nothing = nested(5, attribute(1, bytes(len(mask))))
    return _expression("bitwise", big(1, 1), big(2, 1), big(3, len(mask)), nested(4, attribute(1, mask)), nothing)


def _compare(value: bytes, how: int = _EQUAL) -> bytes:
    return _expression("cmp", big(1, 1), big(2, how), nested(3, attribute(1, value)))


def _protocol(number: int) -> list[bytes]:
    return [_meta(_META_PROTOCOL), _compare(bytes([number]))]


def _port(offset: int, port: int) -> list[bytes]:
    return [_payload(_TRANSPORT, offset, 2), _compare(struct.pack("!H", port))]


def _verdict(code: int, chain: str = "") -> bytes:
    target = [text(2, chain)] if chain else []
    return _expression("immediate", big(1, 0), nested(2, nested(2, big(1, code), *target)))


def _compatible(number: int) -> bytes:
    """The target of iptables, revision 3: struct xt_NFQ_info_v3, padded as the kernel aligns it."""
    about = struct.pack("=HHH", number, 1, _BYPASS).ljust(8, b"\0")
    return _expression("target", text(1, "NFQUEUE"), big(2, 3), attribute(3, about))


def _native(number: int) -> bytes:
    short = [attribute(kind, struct.pack("!H", value)) for kind, value in ((1, number), (2, 1), (3, _BYPASS))]
    return _expression("queue", *short)
