"""Root queueing disciplines with a handle of our own, by rtnetlink.

Invariant: the kernel itself keeps what belongs to others. `add` does not ask to replace, so it fails where somebody has
set a root; `delete` names handle and kind, so it fails on any root but ours. A default root (noqueue, pfifo_fast, mq,
fq_codel without a handle) is nobody's: the kernel makes it again when ours goes.

Source: rtnetlink(7), tc(8), tc-netem(8), tc-tbf(8), linux/pkt_sched.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final, NamedTuple

from agent.system import netlink
from agent.system.netlink import attribute, text

_NEW, _DELETE, _GET = 36, 37, 38
_GET_LINK: Final = 18
_ROOT: Final = 0xFFFFFFFF
_KIND, _OPTIONS, _STATS = 1, 2, 7
_BASIC, _QUEUE = 1, 3  # of _STATS
_TICK_NS: Final = 64  # of the kernel's packet scheduler
_ETHERNET: Final = 1  # link layer: the kernel reckons by itself and wants no table
_LOOPBACK, _PROBE = 1, 0x7FFF
_ALL: Final = 0xFFFFFFFF  # a probability of one


class Root(NamedTuple):
    """A device's root."""

    kind: str
    handle: int  # major number; 0: a default that nobody set
    packets: int = 0
    dropped: int = 0


def index(network: str, device: str) -> int:
    """The device's number; OSError (ENODEV) when there is none of that name."""

    def look(channel: socket.socket) -> int:
        body = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + text(3, device)
        (_, answer), *_ = netlink.ask(channel, netlink.message(_GET_LINK, netlink.REQUEST, body))
        (number,) = struct.unpack_from("=i", answer, 4)
        return int(number)

    return netlink.inside(network, netlink.ROUTE, look)


def root(network: str, number: int) -> Root | None:
    """The root of device *number*; None when the device, or its root, is gone."""

    def look(channel: socket.socket) -> Root | None:
        request = netlink.message(_GET, netlink.REQUEST | netlink.DUMP, _head(number, 0, 0))
        for _, body in netlink.ask(channel, request):
            device, handle, parent = struct.unpack_from("=4xiII", body)
            if device == number and parent == _ROOT:
                return _root(handle >> 16, body)
        return None

    return netlink.inside(network, netlink.ROUTE, look)


def _root(handle: int, body: bytes) -> Root:
    found = dict(netlink.attributes(body, 20, len(body)))
    stats = dict(netlink.attributes(found.get(_STATS, b""), 0, len(found.get(_STATS, b""))))
    packets = struct.unpack_from("=QI", stats[_BASIC])[1] if _BASIC in stats else 0
    dropped = struct.unpack_from("=III", stats[_QUEUE])[2] if _QUEUE in stats else 0
    return Root(found[_KIND].rstrip(b"\0").decode(), handle, packets, dropped)


def add(number: int, handle: int, kind: str, options: bytes) -> None:
    """Sets the root of device *number*, in the caller's namespace. OSError (EEXIST) when somebody has set one."""
    flags = netlink.REQUEST | netlink.ACK | netlink.CREATE | netlink.EXCLUSIVE
    body = _head(number, handle, _ROOT) + text(_KIND, kind) + attribute(_OPTIONS, options)
    with netlink.open_socket(netlink.ROUTE) as channel:
        netlink.talk(channel, [netlink.message(_NEW, flags, body)])


def delete(network: str, number: int, handle: int, kind: str) -> None:
    """Deletes that root and no other; harmless when it, or the device, is gone."""
    body = _head(number, handle, _ROOT) + text(_KIND, kind)
    request = netlink.message(_DELETE, netlink.REQUEST | netlink.ACK, body)
    try:
        netlink.inside(network, netlink.ROUTE, lambda channel: netlink.talk(channel, [request]))
    except OSError as error:
        # EINVAL: another handle or kind; ENOENT: no root that was set; ENODEV: no device
        if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENODEV):
            raise


def lacks(kind: str) -> str:
    """What the kernel says against qdiscs of *kind*, empty when it knows them: asked for one without its options.

    It looks for the kind first, and refuses then, since neither tbf nor netem can be without options.
    """
    body = _head(_LOOPBACK, _PROBE, _ROOT) + text(_KIND, kind)
    flags = netlink.REQUEST | netlink.ACK | netlink.CREATE | netlink.EXCLUSIVE
    with netlink.open_socket(netlink.ROUTE) as channel:
        try:
            netlink.talk(channel, [netlink.message(_NEW, flags, body)])
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EEXIST):
                return ""
            return f"the {kind} qdisc (CONFIG_NET_SCH_{kind.upper()}: {error})"
    delete("", _LOOPBACK, _PROBE, kind)  # a kernel that makes one all the same
    return ""


def _head(number: int, handle: int, parent: int) -> bytes:
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, number, handle << 16, parent, 0)


def tbf(rate_bytes: float, burst_bytes: int, latency_s: float) -> bytes:
    """A token bucket: what would wait longer than *latency_s* is dropped."""
    limit = int(rate_bytes * latency_s) + burst_bytes
    rate = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(int(rate_bytes), 0xFFFFFFFF))
    ticks = min(int(burst_bytes / rate_bytes * 1e9 / _TICK_NS), 0xFFFFFFFF)
    parameters = rate + bytes(12) + struct.pack("=III", limit, ticks, 0)
    wide = attribute(4, struct.pack("=Q", int(rate_bytes))) if rate_bytes > 0xFFFFFFFF else b""
    return attribute(1, parameters) + wide + attribute(6, struct.pack("=I", burst_bytes))


def netem(  # noqa: D417
    *,
    delay_ms: float = 0.0,
    jitter_ms: float = 0.0,
    held_fraction: float = 1.0,
    duplicate_fraction: float = 0.0,
    corrupt_fraction: float = 0.0,
    packets_max: int = 20_000,
) -> bytes:
    """Options of netem.

    Args:
        held_fraction: the part of the packets that is delayed; the rest overtakes it.
    """
    at_once = 1.0 - held_fraction
    gap = 1 if at_once > 0 else 0
    duplicate = _parts(duplicate_fraction)
    plain = struct.pack("=IIIIII", 0, packets_max, 0, gap, duplicate, 0)
    options = plain + attribute(10, struct.pack("=q", int(delay_ms * 1e6)))
    options += attribute(11, struct.pack("=q", int(jitter_ms * 1e6)))
    if gap:
        options += attribute(3, struct.pack("=II", _parts(at_once), 0))
    if corrupt_fraction:
        options += attribute(4, struct.pack("=II", _parts(corrupt_fraction), 0))
    return options


def _parts(fraction: float) -> int:
    return min(_ALL, int(fraction * _ALL))
