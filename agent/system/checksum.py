"""The Internet checksum. Source: RFC 1071."""

from __future__ import annotations

import struct


def internet(*parts: bytes) -> int:
    """Over *parts*, each but the last of an even number of bytes; 16 bits."""
    total = 0
    for part in parts:
        padded = part + bytes(len(part) % 2)
        total += sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF
