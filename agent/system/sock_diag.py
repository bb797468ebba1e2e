"""The kernel's TCP sockets of a network namespace: listed, and closed one by one, by NETLINK_SOCK_DIAG.

A socket is named by its addresses, ports, device *and* cookie, so that a later connection with the same addresses is
never mistaken for it.

Source: sock_diag(7), linux/inet_diag.h; CONFIG_INET_DIAG_DESTROY.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from agent.system import netlink

_PROTOCOL: Final = 4  # NETLINK_SOCK_DIAG
_LIST: Final = 20
_DESTROY: Final = 21
_ID_AT: Final = 4
_ID_BYTES: Final = 48
_INODE_AT: Final = 4 + _ID_BYTES + 16
_CONNECTED: Final = sum(1 << state for state in (1, 4, 5, 8))  # ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_GONE: Final = (errno.ENOENT, errno.ESTALE)


class Connection(NamedTuple):
    """One end of a TCP connection. IPv4 in an IPv6 socket is shown as IPv4."""

    family: int
    identity: bytes  # the kernel's own: ports, addresses, device, cookie
    local: str
    local_port: int
    remote: str
    remote_port: int
    inode: int


def missing() -> str:
    """What the kernel lacks, in words: it is asked to close a socket that cannot exist."""

    def ask(channel: socket.socket) -> None:
        netlink.ask(channel, netlink.message(_LIST, netlink.REQUEST | netlink.DUMP, _request(socket.AF_INET, 0)))
        netlink.talk(channel, [_destroy(socket.AF_INET, bytes(_ID_BYTES))])

    try:
        netlink.inside("", _PROTOCOL, ask)
    except OSError as error:
        return "" if error.errno in _GONE else f"SOCK_DESTROY in the kernel ({error.strerror})"
    return ""


def connections(network: str) -> list[Connection]:
    """The ends of established TCP connections in the namespace at *network* ("": the caller's own)."""

    def look(channel: socket.socket) -> list[Connection]:
        found = []
        for family in _FAMILIES:
            request = netlink.message(_LIST, netlink.REQUEST | netlink.DUMP, _request(family, _CONNECTED))
            found += [_connection(body) for kind, body in netlink.ask(channel, request) if kind == _LIST]
        return found

    return netlink.inside(network, _PROTOCOL, look)


def destroy(network: str, victims: Iterable[Connection]) -> list[Connection]:
    """Aborts each: the peer is sent a reset, the owner's calls fail. Those that were still there.

    Raises:
        OSError: the kernel refuses; those before it are gone.
    """

    def close(channel: socket.socket) -> list[Connection]:
        return [one for one in victims if _close(channel, one)]

    return netlink.inside(network, _PROTOCOL, close)


def _close(channel: socket.socket, one: Connection) -> bool:
    try:
        netlink.talk(channel, [_destroy(one.family, one.identity)])
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


def listed(text: str) -> Iterator[tuple[str, int, str, int, int]]:
    """(local, port, remote, port, inode) of each row of a /proc/net/tcp or tcp6, as the addresses of `Connection`."""
    for row in text.splitlines()[1:]:
        columns = row.split()
        local, remote = (column.partition(":") for column in columns[1:3])
        yield _in_proc(local[0]), int(local[2], 16), _in_proc(remote[0]), int(remote[2], 16), int(columns[9])


def _request(family: int, states: int, identity: bytes = bytes(_ID_BYTES)) -> bytes:
    return struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, states) + identity


def _destroy(family: int, identity: bytes) -> bytes:
    return netlink.message(_DESTROY, netlink.REQUEST | netlink.ACK, _request(family, 0xFFFFFFFF, identity))


def _connection(body: bytes) -> Connection:
    identity = body[_ID_AT : _ID_AT + _ID_BYTES]
    local_port, remote_port = struct.unpack_from("!HH", identity)
    size = 4 if body[0] == socket.AF_INET else 16
    local, remote = (_address(identity[at : at + size]) for at in (4, 20))
    (inode,) = struct.unpack_from("=I", body, _INODE_AT)
    return Connection(body[0], identity, local, local_port, remote, remote_port, inode)


def _address(packed: bytes) -> str:
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _in_proc(text: str) -> str:
    """The kernel writes each 32-bit word of an address in the order of the machine."""
    words = struct.unpack(f"!{len(text) // 8}I", bytes.fromhex(text))
    return _address(struct.pack(f"={len(words)}I", *words))
