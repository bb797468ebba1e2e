"""Measurements through the pair of namespaces: round trips and TCP throughput, by processes inside them."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.chaos.subject.network_queue import FAR

Process = subprocess.Popen[bytes]
_ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 7))
print("ready", flush=True)
while True:
    channel, _ = server.accept()
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while message := channel.recv(64):
        channel.sendall(message)
"""
_ASK = """
import json, socket, sys, time
channel = socket.create_connection((sys.argv[1], 7))
channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
took = []
for _ in range(int(sys.argv[2])):
    begun = time.monotonic_ns()
    channel.sendall(b"x")
    channel.recv(1)
    took.append((time.monotonic_ns() - begun) / 1e6)
    time.sleep(0.002)
print(json.dumps(took))
"""
_SINK = """
import json, socket, sys, time
server = socket.create_server((sys.argv[1], 9))
print("ready", flush=True)
buffer = bytearray(1 << 20)
while True:
    channel, _ = server.accept()
    begun, seen = 0, 0
    rest_s, window_s = (float(word) for word in channel.recv(64).split())
    until = None
    while count := channel.recv_into(buffer):
        now = time.monotonic()
        if not begun:
            begun = now
        elif until is None and now - begun >= rest_s:
            seen, until = 0, now + window_s
            started = now
        seen += count
        if until and now >= until:
            break
    print(json.dumps(seen * 8 / 1e6 / (now - started) if until else 0.0), flush=True)
    channel.close()
"""
_SOURCE = """
import socket, sys, time
channel = socket.create_connection((sys.argv[1], 9))
channel.sendall(f"{sys.argv[2]} {sys.argv[3]}".encode())
time.sleep(0.2)
block = bytes(1 << 18)
try:
    while True:
        channel.sendall(block)
except OSError:
    pass
"""


def within(process: Process, script: str, *arguments: str) -> Process:
    """A Python process inside the namespace, whose output is read."""
    command = ["nsenter", f"--net=/proc/{process.pid}/ns/net", sys.executable, "-I", "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _line(process: Process) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def _end(process: Process) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def round_trips_ms(near: Process, far: Process, count: int) -> list[float]:
    """Of single bytes over an established TCP connection, sorted; asked at the near end."""
    server = within(far, _ECHO, FAR)
    _line(server)
    asker = within(near, _ASK, FAR, str(count))
    took: list[float] = json.loads(_line(asker))
    _end(asker)
    _end(server)
    return sorted(took)


def throughput_mbit(sender: Process, receiver: Process, to: str, rest_s: float, window_s: float) -> float:
    """What one TCP connection brings from *sender* to address *to*, after *rest_s*, over *window_s*."""
    sink = within(receiver, _SINK, to)
    _line(sink)
    source = within(sender, _SOURCE, to, str(rest_s), str(window_s))
    try:
        rate: float = json.loads(_line(sink))
    finally:
        _end(source)
        _end(sink)
    return rate


_TAKE = """
import hashlib, socket, sys
server = socket.create_server((sys.argv[1], 9))
print("ready", flush=True)
channel, _ = server.accept()
digest = hashlib.sha256()
while block := channel.recv(1 << 16):
    digest.update(block)
channel.sendall(digest.hexdigest().encode())
"""
_BRING = """
import hashlib, socket, sys
block = sys.stdin.buffer.read()
channel = socket.create_connection((sys.argv[1], 9))
channel.sendall(block)
channel.shutdown(socket.SHUT_WR)
print(hashlib.sha256(block).hexdigest(), channel.recv(64).decode(), flush=True)
"""


def carried(near: Process, far: Process, block: bytes) -> tuple[str, str]:
    """SHA-256 of *block* as one TCP connection has sent it from the near end, and as it came."""
    server = within(far, _TAKE, FAR)
    _line(server)
    command = ["nsenter", f"--net=/proc/{near.pid}/ns/net", sys.executable, "-I", "-c", _BRING, FAR]
    try:
        sent, came = subprocess.run(command, input=block, capture_output=True, check=True, timeout=30).stdout.split()
    finally:
        _end(server)
    return sent.decode(), came.decode()
