"""Who is near on the network: gateways and neighbours that the kernel has heard from, and which addresses are our own.

Source: rtnetlink(7), RTM_GETNEIGH; proc(5), /proc/net/route.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.system import netlink

_GET_NEIGHBOUR: Final = 30
_DESTINATION: Final = 1
_HEARD_FROM: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent


def known(device_index: int = 0) -> list[str]:
    """Addresses in the calling thread's namespace, gateways first; *device_index*: of one device only.

    Link-local addresses are left out: they mean nothing without their device.
    """
    neighbours = [one for index, one in _neighbours() if device_index in (0, index)]
    gateways = [one for one in _gateways() if not device_index or one in neighbours]
    return list(dict.fromkeys([*gateways, *neighbours]))


def _gateways() -> Iterator[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/thread-self/net/route").read_text(encoding="ascii").splitlines()[1:]:
            gateway = line.split()[2]
            if gateway != "00000000":
                yield socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))


def _neighbours() -> Iterator[tuple[int, str]]:
    for family in (socket.AF_INET, socket.AF_INET6):
        request = netlink.message(
            _GET_NEIGHBOUR, netlink.REQUEST | netlink.DUMP, struct.pack("=BxxxiHBB", family, 0, 0, 0, 0)
        )
        with netlink.open_socket(netlink.ROUTE) as channel:
            for _, body in netlink.ask(channel, request):
                index, state = struct.unpack_from("=4xiH", body)
                address = dict(netlink.attributes(body, 12, len(body))).get(_DESTINATION)
                if address and state & _HEARD_FROM and not address.startswith((b"\xfe\x80", b"\xff", b"\xe0")):
                    yield index, socket.inet_ntop(family, address)


def is_own(address: str) -> bool:
    """Whether *address* is one of this namespace's."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as channel:
        try:
            channel.bind((address, 0))
        except OSError:
            return False
    return True
