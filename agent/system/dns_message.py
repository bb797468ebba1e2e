"""DNS messages: what a query asks, and answers to it that are not the server's.

Whatever the bytes are, nothing here raises but `MalformedError`. Source: RFC 1035, section 4; RFC 6891 (OPT).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

A, OPT, AAAA = 1, 41, 28
KINDS: Final = {"A": A, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": AAAA, "SRV": 33}
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
CODES: Final = {NOERROR: "NOERROR", 1: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN", 5: "REFUSED"}
_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")
_RESPONSE: Final = 0x8000
_KEPT: Final = 0x7990  # of a response's flags: opcode, recursion desired and available, checking disabled
_OPCODE: Final = 0x7800
_TRUNCATED: Final = 0x0200
_INTERNET: Final = 1
_POINTER: Final = 0xC0
_TO_QUESTION: Final = b"\xc0\x0c"
_LABELS_MAX: Final = 128
_RECORDS_MAX: Final = 512
_NAME_MAX: Final = 255
_LEADING: Final = {"MX": 2, "SRV": 6}  # bytes of numbers before the name


class MalformedError(ValueError):
    """These bytes are no DNS message of the kind that is looked for."""


class Question(NamedTuple):
    """The one question of a message. *name*: lower case, without the last dot. *end*: offset behind it."""

    name: str
    kind: int
    end: int


class Record(NamedTuple):
    kind: int
    start: int  # offsets of the record and of its value
    value: int
    end: int


def question(message: bytes) -> Question:
    """What a response was asked; MalformedError where it is not a response to one question of the Internet's."""
    try:
        _, flags, questions, _, _, _ = _HEADER.unpack_from(message)
        if not flags & _RESPONSE or flags & _OPCODE or questions != 1:
            raise MalformedError
        name, end = _name(message, _HEADER.size)
        kind, group = struct.unpack_from("!HH", message, end)
    except (struct.error, IndexError) as error:
        raise MalformedError from error
    if group != _INTERNET:
        raise MalformedError
    return Question(name, kind, end + 4)


def answer(message: bytes, asked: Question, code: int, addresses: Sequence[bytes] = ()) -> bytes:
    """A response in the place of *message*: another code, and packed *addresses* that nobody is to keep (TTL 0)."""
    number, flags, *_ = _HEADER.unpack_from(message)
    option = _option(message, asked.end)
    head = _HEADER.pack(number, _RESPONSE | (flags & _KEPT) | code, 1, len(addresses), 0, bool(option))
    records = [_TO_QUESTION + _RECORD.pack(asked.kind, _INTERNET, 0, len(one)) + one for one in addresses]
    return b"".join([head, message[_HEADER.size : asked.end], *records, option])


def query(name: str, kind: int, number: int) -> bytes:
    """A question to a resolver, recursion desired."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".") if label)
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, _INTERNET)


def code(message: bytes) -> int:
    """The response code in the header."""
    return message[3] & 0xF


def addresses(message: bytes, asked: Question) -> list[str]:
    """The addresses in a response's answers, sorted; what cannot be read is left out."""
    (count,) = struct.unpack_from("!H", message, 6)
    found = []
    for at, record in enumerate(_records(message, asked.end)):
        value = message[record.value : record.end]
        if at < count and (record.kind, len(value)) in ((A, 4), (AAAA, 16)):
            found.append(str(ipaddress.ip_address(value)))
    return sorted(found)


def truncated(message: bytes) -> bool:
    """Whether the server had more to say than a datagram holds."""
    return bool(_HEADER.unpack_from(message)[1] & _TRUNCATED)


def values(message: bytes, asked: Question, kind: str) -> list[str]:
    """The answers of one of KINDS as text, names in lower case; what cannot be read is left out."""
    (count,) = struct.unpack_from("!H", message, 6)
    found = []
    for at, record in enumerate(_records(message, asked.end)):
        if at < count and record.kind == KINDS[kind]:
            try:
                found.append(_value(message, record, kind))
            except (MalformedError, struct.error, IndexError, ValueError):
                continue
    return found


def _value(message: bytes, record: Record, kind: str) -> str:
    if kind in ("A", "AAAA"):
        packed = message[record.value : record.end]
        if len(packed) != (4 if kind == "A" else 16):
            raise MalformedError
        return str(ipaddress.ip_address(packed))
    if kind == "TXT":
        parts, at = [], record.value
        while at < record.end:
            parts.append(message[at + 1 : min(at + 1 + message[at], record.end)])
            at += 1 + message[at]
        return b"".join(parts).decode("latin-1")
    leading = _LEADING.get(kind, 0)
    numbers = struct.unpack_from(f"!{leading // 2}H", message, record.value)
    return " ".join([*map(str, numbers), _expanded(message, record.value + leading)])


def _expanded(message: bytes, at: int) -> str:
    """A name that may end in pointers, each of which must point back: so that none leads round."""
    labels: list[str] = []
    limit = at
    while (length := message[at]) and sum(map(len, labels)) + len(labels) <= _NAME_MAX:
        if length >= _POINTER:
            at = (length & ~_POINTER) << 8 | message[at + 1]
            if at >= limit:
                raise MalformedError
            limit = at
            continue
        if at + 1 + length >= len(message):
            raise MalformedError
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    if length:
        raise MalformedError
    return ".".join(labels)


def _option(message: bytes, at: int) -> bytes:
    """The OPT record of a response: without it a resolver would think that its server knows no extensions."""
    for record in _records(message, at):
        if record.kind == OPT:
            return message[record.start : record.end]
    return b""


def _records(message: bytes, at: int) -> Iterator[Record]:
    """The records from offset *at*, as far as they can be read."""
    try:
        for _ in range(min(_RECORDS_MAX, sum(_HEADER.unpack_from(message)[3:]))):
            start, at = at, _skip(message, at)
            kind, _, _, length = _RECORD.unpack_from(message, at)
            value, at = at + _RECORD.size, at + _RECORD.size + length
            if at > len(message):
                return
            yield Record(kind, start, value, at)
    except (struct.error, IndexError):
        return


def _name(message: bytes, at: int) -> tuple[str, int]:
    """A name that is written out, and the offset behind it."""
    labels: list[str] = []
    for _ in range(_LABELS_MAX):
        length = message[at]
        if not length:
            return ".".join(labels), at + 1
        if length >= _POINTER or at + 1 + length >= len(message):
            break
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    raise MalformedError


def _skip(message: bytes, at: int) -> int:
    for _ in range(_LABELS_MAX):
        length = message[at]
        if not length:
            return at + 1
        if length >= _POINTER:
            return at + 2
        at += 1 + length
    raise IndexError
