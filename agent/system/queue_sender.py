"""Sends whole IP packets with a mark by which rules know them.

Marks have two classes. A packet marked `COPY` is exempt from the table of the effect that sent it, by the rest of its
mark, and from no other. A packet marked `RESENT` has passed all rules once, before it was held and sent again: every
table of ours lets it pass.

Source: raw(7), IP_HDRINCL; ip(7), IP_PKTINFO; ipv6(7).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from typing import Final

COPY: Final = 0xB1AC0000
RESENT: Final = 0xB1AD0000
CLASS_MASK: Final = 0xFFFF0000
REST_MASK: Final = 0x3FFF  # the two bits above are those by which Kubernetes marks what it masquerades and drops

_BUFFER_BYTES: Final = 16 << 20
_SO_SNDBUFFORCE: Final = 32
_IPV6_HDRINCL: Final = 36
_IP_PKTINFO, _IPV6_PKTINFO = 8, 50


class Sender:
    """Raw sockets in the calling thread's network namespace.

    Args:
        mark: of what is sent.
        from_here: the packets' source addresses are this node's, and their routes are to be chosen by them.
    """

    def __init__(self, mark: int, *, from_here: bool = False) -> None:
        self._from_here = from_here
        self._four = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._six: socket.socket | None = None
        if Path("/proc/thread-self/net/if_inet6").exists():
            self._six = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self._six.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
        for one in (self._four, self._six):
            if one is not None:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
                one.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
                one.setblocking(False)

    def send(self, content: bytes) -> None:
        """Sends it, or does not: a packet that finds no room or no route is lost, as on a wire."""
        with contextlib.suppress(OSError):
            if content[0] >> 4 == 4:
                there = (socket.inet_ntoa(content[16:20]), 0)
                if self._from_here:
                    about = struct.pack("=i4sI", 0, content[12:16], 0)
                    self._four.sendmsg([content], [(socket.IPPROTO_IP, _IP_PKTINFO, about)], 0, there)
                else:
                    self._four.sendto(content, there)
            elif self._six is not None:
                there = (socket.inet_ntop(socket.AF_INET6, content[24:40]), 0)
                about = struct.pack("=16si", content[8:24], 0)
                extra = [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, about)] if self._from_here else []
                self._six.sendmsg([content], extra, 0, there)
