"""Asks a peer and writes down when it asked and what came back: the eyes of `agent.faults.gauge`.

`python -m agent.faults.gauge_echo` reads one JSON question and writes one JSON answer. A process of its own, inside the
network namespace; it knows nothing of rules, queues or qdiscs. It asks by ICMP echo, or, where a fault is about TCP or
UDP only, by a connection or a datagram: a refusal is an answer too.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import itertools
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from agent.system import checksum, libc, neighbour

_CANDIDATES_MAX: Final = 8  # asked at the same time
_FIRST_HOSTS: Final = 3  # of a network of which nobody is known
_LINGER_S: Final = 0.06  # after the last answer: a second one may come
_BUFFER_BYTES: Final = 8 << 20
_SO_RCVBUFFORCE: Final = 33
_BASE_PORT: Final = 9  # "discard": hardly ever open, so it answers with a refusal


def main() -> None:
    question: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    if question["network"]:
        libc.enter_network(question["network"])
    ask = {"echo": _echoes, "connect": _connections, "datagram": _datagrams}[question["how"]]
    chosen = question["chosen"]
    if not chosen:
        once = question | {"count": 1, "wait_s": question["find_s"], "size": 16}
        listed = candidates(question["peers"], question["device_index"])
        with ThreadPoolExecutor(_CANDIDATES_MAX) as pool:
            answered = list(pool.map(lambda peer: _answers(ask, peer, once), listed))
        chosen = next((peer for peer, yes in zip(listed, answered, strict=True) if yes), "")
    errors = checksum_errors()
    answer: dict[str, Any] = {"sent": [], "replies": []}
    if chosen:
        with contextlib.suppress(OSError):
            answer = ask(chosen, question)
    print(json.dumps({"peer": chosen, "errors": checksum_errors() - errors, **answer}))


def _answers(ask: Any, peer: str, question: dict[str, Any]) -> bool:
    with contextlib.suppress(OSError):
        return bool(ask(peer, question)["replies"])
    return False


def candidates(peers: list[str], device_index: int = 0) -> list[str]:
    """Addresses that may answer: single peers, and of networks those that the kernel knows, then the first."""
    networks = [ipaddress.ip_network(peer) for peer in peers]
    found = [str(one.network_address) for one in networks if one.num_addresses == 1]
    wide = [one for one in networks if one.num_addresses > 1]
    if wide:
        heard = neighbour.known(device_index)
        found += [one for one in heard if any(ipaddress.ip_address(one) in network for network in wide)]
        for network in wide:
            first = itertools.islice(network.hosts(), _FIRST_HOSTS) if network.prefixlen else ()
            found += [str(one) for one in first if not neighbour.is_own(str(one))]
    return list(dict.fromkeys(found))[:_CANDIDATES_MAX]


def checksum_errors() -> int:
    """Packets that the namespace has refused for their checksum."""
    count = 0
    lines: list[str] = []
    for name in ("snmp", "snmp6"):
        with contextlib.suppress(OSError):
            lines += Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").splitlines()
    for names, values in itertools.pairwise(lines):
        if names.split(":")[0] == values.split(":")[0]:
            columns = dict(zip(names.split(), values.split(), strict=False))
            count += int(columns.get("InCsumErrors", 0))
    return count + sum(int(line.split()[1]) for line in lines if "InCsumErrors" in line.split()[0])


def _family(peer: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in peer else socket.AF_INET


def _echoes(peer: str, question: dict[str, Any]) -> dict[str, Any]:
    """Echo requests on a time grid, and every reply, also the second and the spoilt."""
    family, count = _family(peer), question["count"]
    request, protocol = (128, socket.IPPROTO_ICMPV6) if family == socket.AF_INET6 else (8, socket.IPPROTO_ICMP)
    body = os.urandom(question["size"] & ~1)
    identity = (os.getpid() ^ hash(peer)) & 0xFFFF
    sent: list[int] = []
    replies: list[tuple[int, int, bool]] = []
    with socket.socket(family, socket.SOCK_RAW, protocol) as channel:
        for option in (_SO_RCVBUFFORCE, 32):
            with contextlib.suppress(OSError):
                channel.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        channel.connect((peer, 0))
        channel.setblocking(False)
        interval_s, begun, last = question["interval_s"], time.monotonic(), time.monotonic()
        while True:
            while len(sent) < count and begun + len(sent) * interval_s <= time.monotonic():
                head = struct.pack("!BBHHH", request, 0, 0, identity, len(sent))
                with contextlib.suppress(OSError):
                    channel.send(head[:2] + struct.pack("!H", checksum.internet(head, body)) + head[4:] + body)
                sent.append(time.monotonic_ns())
                last = time.monotonic()
            answered = len({number for number, _, _ in replies}) == count if len(sent) == count else False
            rest_s = last + (_LINGER_S if answered else question["wait_s"]) - time.monotonic()
            if len(sent) < count:
                rest_s = begun + len(sent) * interval_s - time.monotonic()
            elif rest_s <= 0:
                return {"sent": sent, "replies": replies}
            if select.select([channel], [], [], max(0.0, rest_s))[0]:
                for reply in _replies(channel, family, identity, body):
                    replies.append(reply)
                    last = time.monotonic()


def _replies(
    channel: socket.socket, family: socket.AddressFamily, identity: int, body: bytes
) -> Iterator[tuple[int, int, bool]]:
    """(number, instant, whether it came as it was sent) of each reply that waits."""
    kind = 129 if family == socket.AF_INET6 else 0
    while True:
        try:
            packet = channel.recv(1 << 16)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return
            continue
        at = 0 if family == socket.AF_INET6 else (packet[0] & 0xF) * 4
        if len(packet) >= at + 8 and packet[at] == kind:
            whose, number = struct.unpack_from("!HH", packet, at + 4)
            if whose == identity:
                yield number, time.monotonic_ns(), packet[at + 8 :] == body


def _connections(peer: str, question: dict[str, Any]) -> dict[str, Any]:
    """TCP connections, one after the other."""

    def once(port: int) -> bool:
        try:
            socket.create_connection((peer, port), question["wait_s"]).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True

    return _one_by_one(question, once)


def _datagrams(peer: str, question: dict[str, Any]) -> dict[str, Any]:
    """UDP datagrams, one after the other; a refusal comes as an ICMP message."""

    def once(port: int) -> bool:
        with socket.socket(_family(peer), socket.SOCK_DGRAM) as channel:
            channel.settimeout(question["wait_s"])
            try:
                channel.connect((peer, port))
                channel.send(bytes(12))
                channel.recv(2048)
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
        return True

    return _one_by_one(question, once)


def _one_by_one(question: dict[str, Any], once: Any) -> dict[str, Any]:
    sent, replies = [], []
    for number in range(question["count"]):
        sent.append(time.monotonic_ns())
        if once(question["port"] or _BASE_PORT):
            replies.append((number, time.monotonic_ns(), True))
        time.sleep(min(0.02, question["interval_s"]))
    return {"sent": sent, "replies": replies}


if __name__ == "__main__":
    main()
