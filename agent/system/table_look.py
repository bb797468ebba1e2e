"""What the kernel says of tables that `queue_table` has made: in which families they stand, what their rules counted.

Asked by hand, not by `nft`, which writes broken JSON for tables with an owner (1.0.6).

Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from agent.system import netlink
from agent.system.netlink import text
from agent.system.queue_table import FAMILIES

_GET_TABLE: Final = 0x0A01
_GET_RULE: Final = 0x0A07


def standing(network: str, table: str) -> list[str]:
    """The families in which the table stands, in a network namespace ("": the caller's own)."""

    def look(channel: socket.socket) -> list[str]:
        found = []
        for version, family in FAMILIES.items():
            head = struct.pack("!BBH", family, 0, 0)
            try:
                netlink.ask(channel, netlink.message(_GET_TABLE, netlink.REQUEST, head + text(1, table)))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
            else:
                found.append("ip" if version == 4 else "ip6")
        return found

    return netlink.inside(network, netlink.NETFILTER, look)


def counters(network: str, table: str) -> tuple[int, int]:
    """Packets that matched and that were sent to the queue, as the kernel has counted them in the table's rules."""

    def look(channel: socket.socket) -> tuple[int, int]:
        matched = sent = 0
        for family in FAMILIES.values():
            head = struct.pack("!BBH", family, 0, 0)
            request = netlink.message(_GET_RULE, netlink.REQUEST | netlink.DUMP, head + text(1, table))
            for _, body in netlink.ask(channel, request):
                if counts := _counts(body):
                    matched, sent = matched + counts[0], sent + counts[-1]
        return matched, sent

    return netlink.inside(network, netlink.NETFILTER, look)


def _counts(rule: bytes) -> list[int]:
    """Packets of each counter in a rule."""
    found = []
    expressions = dict(netlink.attributes(rule, 4, len(rule))).get(4, b"")
    for _, one in netlink.attributes(expressions, 0, len(expressions)):
        parts = dict(netlink.attributes(one, 0, len(one)))
        if parts.get(1) == b"counter\0":
            inner = dict(netlink.attributes(parts[2], 0, len(parts[2])))
            found.append(int.from_bytes(inner[2], "big"))
    return found
