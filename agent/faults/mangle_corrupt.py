"""One bit of every packet that comes here is flipped, and its checksum left as it was. The kernel draws the part.

The bit is in the transport's payload, or in its header where there is no payload: the address stays right, so that the
damage arrives where it was meant to.
"""

from __future__ import annotations

import random
import struct
from typing import Any, Final

from agent.system import queue_table
from agent.system.queue_engine import ACCEPT, WHOLE, Fate, Packet, Stream

_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_FIXED: Final = {_UDP: 8, _ICMP: 8, _ICMP6: 8}
_EXTENSIONS: Final = (0, 43, 60)  # of IPv6: hop by hop, routing, destination


def streams(arguments: dict[str, Any]) -> dict[str, Stream]:
    return {
        side: Stream(lambda packet, _: decide(packet), copy_bytes=WHOLE, segment=True)
        for side in queue_table.sides(arguments["direction"])
    }


def decide(packet: Packet) -> int | Fate:
    content = bytearray(packet.content)
    first, payload = transport(content)
    at = payload if payload < len(content) else first
    if at >= len(content):
        return ACCEPT
    content[random.randrange(at, len(content))] ^= 1 << random.randrange(8)  # noqa: S311
    return Fate(payload=bytes(content))


def transport(content: bytes | bytearray) -> tuple[int, int]:
    """Where the transport's header starts and where its payload does, in an IP packet."""
    if content[0] >> 4 == 4:
        at, protocol = (content[0] & 0xF) * 4, content[9]
        if struct.unpack_from("!H", content, 6)[0] & 0x1FFF:
            return at, at  # a later fragment has no header
    else:
        at, protocol = 40, content[6]
        while protocol in _EXTENSIONS and at + 8 <= len(content):
            protocol, at = content[at], at + (content[at + 1] + 1) * 8
    if protocol == _TCP and at + 12 < len(content):
        return at, at + (content[at + 12] >> 4) * 4
    return at, at + _FIXED.get(protocol, 0)
