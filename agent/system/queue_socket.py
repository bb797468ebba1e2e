"""One NFQUEUE: packets that the kernel holds until this process says what becomes of them.

Invariant: the queue lives exactly as long as its socket. When it closes the kernel drops what was still held, and
rules with `bypass` let packets through again. With the queue full, or its socket, packets pass (FAIL_OPEN): slowness
of this process shows as packets left alone, never as loss.

Source: linux/netfilter/nfnetlink_queue.h; net/netfilter/nfnetlink_queue.c for the order of ids.
"""

from __future__ import annotations

import errno
import random
import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

from agent.system import netlink
from agent.system.netlink import big

_PACKET, _VERDICT, _CONFIG, _VERDICT_BATCH = 0x0300, 0x0301, 0x0302, 0x0303
_BIND: Final = 1
_META, _COPY = 1, 2
_FAIL_OPEN, _SEGMENTS = 1, 4  # NFQA_CFG_F_FAIL_OPEN, NFQA_CFG_F_GSO
_DROP, _ACCEPT = 0, 1
_FIRST, _LAST = 32768, 65535  # people number their own queues from 0
_TRIES: Final = 64
_RECEIVE_BYTES: Final = 32 << 20
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_SOL_NETLINK, _NO_ENOBUFS = 270, 5
_HEADER: Final = 20  # netlink's and nfnetlink's
_VERDICT_HEADER, _PAYLOAD, _WHOLE_LENGTH = 2, 10, 13
_ID: Final = struct.Struct("!I").pack
_PENDING_BYTES: Final = 4096  # verdicts are sent together, about a hundred at a time

PACKET_ID: Final = 24  # in a message: its first attribute is id, protocol, hook
PACKETS_MAX: Final = 20_000  # that the kernel holds for one queue


class Standing(NamedTuple):
    """What the kernel says of a queue (/proc/net/netfilter/nfnetlink_queue)."""

    number: int
    waiting: int
    dropped: int  # with the queue or the socket full, where that does not let them pass
    passed: int  # packets that have been put into it so far


class QueueSocket:
    """A queue of its own number in the calling thread's network namespace.

    Args:
        copy_bytes: how much of each packet is copied here; 0: none, the packet stays in the kernel.
        segment: have the kernel cut big (GSO) packets up and fill in checksums first, so that one packet here is one on
            the wire. Costs throughput.
        packets_max: how many the kernel holds at most.
    """

    def __init__(self, *, copy_bytes: int = 0, segment: bool = False, packets_max: int = PACKETS_MAX) -> None:
        self.channel = netlink.open_socket(netlink.NETFILTER)
        self.copying = copy_bytes > 0
        self.buffer = bytearray((1 << 17) if copy_bytes > 1024 else 4096)
        self._pending = bytearray()
        self.number = 0
        try:
            self._bind()
            mode = struct.pack("!IB", copy_bytes, _COPY if self.copying else _META)
            flags = _FAIL_OPEN | (0 if segment else _SEGMENTS)
            settings = [big(3, packets_max), big(4, _FAIL_OPEN | _SEGMENTS), big(5, flags)]
            self._configure(netlink.attribute(2, mode) + b"".join(settings))
        except OSError:
            self.channel.close()
            raise
        for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            self.channel.setsockopt(socket.SOL_SOCKET, option, _RECEIVE_BYTES)
        self.channel.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        self.channel.setblocking(False)
        self._accepting, self._dropping = self._verdict(_VERDICT, _ACCEPT), self._verdict(_VERDICT, _DROP)
        self._accepting_all = self._verdict(_VERDICT_BATCH, _ACCEPT)

    def _bind(self) -> None:
        command = netlink.attribute(1, struct.pack("!BBH", _BIND, 0, 0))
        for _ in range(_TRIES):
            self.number = random.randint(_FIRST, _LAST)  # noqa: S311
            if self.number in standings():
                continue
            try:
                return self._configure(command)
            except OSError as error:
                if error.errno != errno.EBUSY and self.number not in standings():  # EPERM: another was quicker
                    raise
        raise OSError(errno.EBUSY, "no free NFQUEUE number")

    def _configure(self, body: bytes) -> None:
        netlink.talk(self.channel, [self._message(_CONFIG, body, netlink.REQUEST | netlink.ACK)])

    def receive(self) -> int:
        """Reads one packet's message into the buffer; its length, 0 for what is no packet. BlockingIOError: no more."""
        length = self.channel.recv_into(self.buffer)
        (kind,) = struct.unpack_from("=H", self.buffer, 4)
        return length if kind == _PACKET else 0

    def payload(self, length: int) -> tuple[int, int, int]:
        """Where the copied packet starts and ends in the buffer, and how long the whole one is."""
        buffer, at, whole = self.buffer, _HEADER, 0
        while at < length:
            size, kind = struct.unpack_from("=HH", buffer, at)
            if kind == _PAYLOAD:
                return at + 4, at + size, whole or size - 4
            if kind == _WHOLE_LENGTH:
                (whole,) = struct.unpack_from("!I", buffer, at + 4)
            at += (size + 3) & ~3
        return 0, 0, whole

    def accept(self, packet_id: int) -> None:
        self._pending += self._accepting + _ID(packet_id)
        if len(self._pending) >= _PENDING_BYTES:
            self.flush()

    def drop(self, packet_id: int) -> None:
        self._pending += self._dropping + _ID(packet_id)
        if len(self._pending) >= _PENDING_BYTES:
            self.flush()

    def accept_all(self, last_id: int) -> None:
        """Accepts every packet up to and including *last_id* that has had no verdict yet."""
        self._pending += self._accepting_all + _ID(last_id)
        self.flush()

    def accept_altered(self, packet_id: int, payload: bytes) -> None:
        """Accepts the packet with other content."""
        body = netlink.attribute(_VERDICT_HEADER, struct.pack("!II", _ACCEPT, packet_id))
        self.flush()
        self.channel.send(self._message(_VERDICT, body + netlink.attribute(_PAYLOAD, payload), netlink.REQUEST))

    def flush(self) -> None:
        """Sends the verdicts that are pending."""
        if self._pending:
            self.channel.send(self._pending)
            self._pending.clear()

    def _verdict(self, kind: int, verdict: int) -> bytes:
        """All of a verdict's message but the packet's id, which is its last four bytes."""
        return self._message(kind, netlink.attribute(_VERDICT_HEADER, struct.pack("!II", verdict, 0)))[:-4]

    def _message(self, kind: int, body: bytes, flags: int = netlink.REQUEST) -> bytes:
        head = struct.pack("!BBH", socket.AF_UNSPEC, 0, self.number)
        return netlink.message(kind, flags, head + body)

    def close(self) -> None:
        self.channel.close()


def standings(pid: str = "thread-self") -> dict[int, Standing]:
    """Every queue in the network namespace of a process, by number; empty where there is none."""
    try:
        lines = Path(f"/proc/{pid}/net/netfilter/nfnetlink_queue").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    rows = [[int(field) for field in line.split()] for line in lines]
    return {row[0]: Standing(row[0], row[2], row[5] + row[6], row[7]) for row in rows}


def missing() -> str:
    """What the kernel lacks for queues, asked by a request that changes nothing; empty when they are there."""
    head = struct.pack("!BBH", socket.AF_UNSPEC, 0, _LAST)
    request = netlink.message(_CONFIG, netlink.REQUEST | netlink.ACK, head + big(3, PACKETS_MAX))
    with netlink.open_socket(netlink.NETFILTER) as channel:
        try:
            netlink.talk(channel, [request])
        except OSError as error:
            # there is no such queue, or it is another's: the subsystem has answered
            if error.errno not in (errno.ENODEV, errno.EPERM):
                return f"packet queues (CONFIG_NETFILTER_NETLINK_QUEUE: {error})"
    return ""
