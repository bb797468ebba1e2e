"""Answers of resolvers, by the name that was asked: another one, later, or never. All other packets pass as they are.

Arguments: `names` (patterns, lower case; empty: every name), `mode`, `addresses` (packed, in hexadecimal), `delay_ms`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from agent.faults.mangle_corrupt import transport
from agent.system import checksum, dns_message
from agent.system.dns_message import MalformedError, Question
from agent.system.queue_engine import ACCEPT, DROP, WHOLE, Decide, Fate, Packet, Stream

PORT: Final = 53
_UDP: Final = 17
_UDP_BYTES: Final = 8
_LENGTHS: Final = {dns_message.A: 4, dns_message.AAAA: 16}
_CODES: Final = {"nxdomain": dns_message.NXDOMAIN, "servfail": dns_message.SERVFAIL}


def streams(arguments: dict[str, Any]) -> dict[str, Stream]:
    return {"in": Stream(decider(arguments), copy_bytes=WHOLE, segment=True)}


def decider(arguments: dict[str, Any]) -> Decide:
    """What becomes of a packet, by *arguments*."""
    meant, mode, delay_ns = matcher(arguments["names"]), arguments["mode"], int(arguments["delay_ms"] * 1e6)
    addresses = [bytes.fromhex(one) for one in arguments["addresses"]]

    def decide(packet: Packet, now_ns: int) -> int | Fate:
        content = packet.content
        header, start = transport(content)
        if start - header != _UDP_BYTES or content[header : header + 2] != struct.pack("!H", PORT):
            return ACCEPT
        try:
            asked = dns_message.question(content[start:])
        except MalformedError:
            return ACCEPT
        if not meant(asked.name):
            return ACCEPT
        if mode == "timeout":
            return DROP
        if mode == "slow":
            return now_ns + delay_ns
        changed = _answered(content[start:], asked, mode, addresses)
        return ACCEPT if changed is None else Fate(payload=_packed(content, header, changed))

    return decide


def matcher(patterns: list[str]) -> Callable[[str], bool]:
    """Whether a name is one of *patterns*: itself, or `*.zone` for all below the zone; none: every name."""
    if not patterns or "*" in patterns:
        return lambda _name: True
    names = frozenset(pattern for pattern in patterns if not pattern.startswith("*."))
    zones = tuple(pattern[1:] for pattern in patterns if pattern.startswith("*."))
    return lambda name: name in names or (bool(zones) and name.endswith(zones))


def _answered(message: bytes, asked: Question, mode: str, addresses: list[bytes]) -> bytes | None:
    if mode in _CODES:
        return dns_message.answer(message, asked, _CODES[mode])
    length = _LENGTHS.get(asked.kind)
    if length is None:
        return None  # only addresses can be wrong
    fitting = [one for one in addresses if len(one) == length]
    return dns_message.answer(message, asked, dns_message.NOERROR, fitting)


def _packed(content: bytes, header: int, message: bytes) -> bytes:
    """The IP packet *content* with *message* in its datagram, lengths and checksums made anew."""
    ports, length = content[header : header + 4], _UDP_BYTES + len(message)
    datagram = ports + struct.pack("!HH", length, 0) + message
    if content[0] >> 4 == 4:
        network = bytearray(content[:header])
        struct.pack_into("!H", network, 2, header + length)
        struct.pack_into("!H", network, 6, struct.unpack_from("!H", network, 6)[0] & 0x4000)  # whole, if it was a part
        struct.pack_into("!H", network, 10, 0)
        struct.pack_into("!H", network, 10, checksum.internet(bytes(network)))
        pseudo = bytes(network[12:20]) + struct.pack("!HH", _UDP, length)
    else:
        network = bytearray(content[:header])
        struct.pack_into("!H", network, 4, header - 40 + length)
        pseudo = bytes(network[8:40]) + struct.pack("!II", length, _UDP)
    summed = checksum.internet(pseudo, datagram) or 0xFFFF
    return bytes(network) + ports + struct.pack("!HH", length, summed) + message
