"""Netlink by hand: attributes, messages, and a socket that waits for the kernel's answers.

Nothing here knows what the messages mean; `queue_socket`, `queue_table` and `qdisc` do.

Source: netlink(7), linux/netlink.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from agent.system import libc

ROUTE: Final = 0
NETFILTER: Final = 12

REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400
APPEND: Final = 0x800

_ERROR: Final = 2
_DONE: Final = 3
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_SOL_NETLINK: Final = 270
_CAP_ACK: Final = 10
_EXT_ACK: Final = 11
_CAPPED: Final = 0x100  # the answer does not repeat the request
_WORDS: Final = 0x200  # the answer carries attributes, the first of which may be a text
_ANSWER_S: Final = 2.0

T = TypeVar("T")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """One attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def big(kind: int, value: int) -> bytes:
    """A 32-bit number in network order, as nfnetlink wants it."""
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def attributes(buffer: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(kind, value) of each attribute between the offsets."""
    while start + 4 <= end:
        length, kind = struct.unpack_from("=HH", buffer, start)
        if length < 4:
            return
        yield kind & _TYPE_MASK, buffer[start + 4 : start + length]
        start += (length + 3) & ~3


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket in the calling thread's network namespace, with the kernel's words for its refusals."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    channel.bind((0, 0))
    for option in (_CAP_ACK, _EXT_ACK):
        channel.setsockopt(_SOL_NETLINK, option, 1)
    channel.settimeout(_ANSWER_S)
    return channel


def answers(channel: socket.socket, count: int) -> None:
    """Reads *count* acknowledgements; OSError with the kernel's own words for the first that is a refusal."""
    while count > 0:
        for kind, flags, body in _messages(channel.recv(1 << 16)):
            if kind != _ERROR:
                continue
            count -= 1
            (number,) = struct.unpack_from("=i", body)
            if number:
                raise OSError(-number, _complaint(-number, flags, body))


def ask(channel: socket.socket, request: bytes) -> list[tuple[int, bytes]]:
    """(kind, body) of what answers a request; of every message where it asks with `DUMP`."""
    channel.send(request)
    dumping = struct.unpack_from("=H", request, 6)[0] & DUMP == DUMP
    found: list[tuple[int, bytes]] = []
    while True:
        for kind, flags, body in _messages(channel.recv(1 << 18)):
            if kind == _DONE:
                return found
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", body)
                raise OSError(-number, _complaint(-number, flags, body))
            found.append((kind, body))
        if found and not dumping:
            return found


def talk(channel: socket.socket, requests: Sequence[bytes]) -> None:
    """Sends *requests*, each with `ACK`, and waits until the kernel has carried them out."""
    channel.send(b"".join(requests))
    answers(channel, len(requests))


def inside(network: str, protocol: int, work: Callable[[socket.socket], T]) -> T:
    """The result of *work* with a netlink socket in the namespace at *network* ("": the caller's own)."""
    if not network:
        with open_socket(protocol) as channel:
            return work(channel)
    made: list[Any] = []

    def enter() -> None:  # a thread of its own: the namespace is a thread's, and this one ends with it
        try:
            libc.enter_network(network)
            made.append(open_socket(protocol))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    with made[0] as channel:
        return work(channel)


def _messages(received: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + 16 <= len(received):
        length, kind, flags = struct.unpack_from("=IHH", received, at)
        if length < 16:
            return
        yield kind, flags, received[at + 16 : at + length]
        at += (length + 3) & ~3


def _complaint(number: int, flags: int, body: bytes) -> str:
    words = os.strerror(number)
    if flags & _WORDS and flags & _CAPPED:
        for kind, value in attributes(body, 20, len(body)):
            if kind == 1:
                words += f": {value.rstrip(bytes(1)).decode(errors='replace')}"
    return words
