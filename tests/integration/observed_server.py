"""A small HTTP server that goes down and comes up on command, and stamps both instants itself.

A plain loop over select: no framework, nothing of Blackstart's. Commands on standard input, one a line: `PORT
kill|freeze DURATION_MS`. Answers `PORT DOWN_LO DOWN_HI UP_LO UP_HI`: ns on CLOCK_MONOTONIC within which it
went down, and came up. It is up once it has been through its loop twice: who waited was accepted, and answered. That
this process was kept from the processor meanwhile is part of the truth.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
PASSES = 2


class Service:
    """One port."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.port = 0
        self.connections: set[socket.socket] = set()
        self.up_at_ns = self.coming_up_ns = self.passes = 0
        self.went_down = (0, 0)
        self.listen()

    def listen(self) -> None:
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.listener.listen(512)

    def down(self, mode: str, duration_ms: float) -> None:
        began_ns = time.monotonic_ns()
        self.mode = mode
        self.selector.unregister(self.listener)
        if mode == "kill":
            self.listener.close()
            for connection in list(self.connections):
                self.end(connection)
        else:
            for connection in self.connections:
                self.selector.unregister(connection)
        self.went_down = (began_ns, time.monotonic_ns())
        self.up_at_ns = began_ns + round(duration_ms * 1e6)

    def up(self) -> None:
        began_ns = time.monotonic_ns()
        if self.mode == "kill":
            self.listen()
        else:
            self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
            for connection in self.connections:
                self.selector.register(connection, selectors.EVENT_READ, self.serve)
        self.up_at_ns, self.coming_up_ns, self.passes = 0, began_ns, 0

    def passed(self) -> None:
        """After each pass of the loop: says when it is up."""
        self.passes += 1
        if self.passes == PASSES:
            ended_ns = time.monotonic_ns()  # before printing, which may cost the processor
            print(self.port, *self.went_down, self.coming_up_ns, ended_ns, flush=True)
            self.coming_up_ns = 0

    def accept(self, listener: socket.socket) -> None:
        """All that wait: after a freeze most have given up, and whoever has not is behind them."""
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            self.connections.add(connection)
            self.selector.register(connection, selectors.EVENT_READ, self.serve)

    def serve(self, connection: socket.socket) -> None:
        try:
            if connection.recv(4096):
                connection.send(ANSWER)
        except OSError:
            pass  # the probe has given up
        self.end(connection)

    def end(self, connection: socket.socket) -> None:
        self.connections.discard(connection)
        self.selector.unregister(connection)
        connection.close()


def main(ports: int) -> None:
    selector = selectors.DefaultSelector()
    services = [Service(selector) for _ in range(ports)]
    print(*(service.port for service in services), flush=True)
    selector.register(sys.stdin.buffer.raw, selectors.EVENT_READ, None)
    while True:
        waits = [service.up_at_ns - time.monotonic_ns() for service in services if service.up_at_ns]
        coming = [service for service in services if service.coming_up_ns]
        ready = selector.select(0 if coming else max(0, min(waits, default=10**9)) / 1e9)
        for key, _ in ready:
            if key.data is not None:
                key.data(key.fileobj)
        for service in coming:
            service.passed()
        if any(key.data is None for key, _ in ready):  # after the others, since it closes their sockets
            lines = sys.stdin.buffer.raw.read(4096)
            if not lines:
                return
            for line in lines.decode().splitlines():
                port, mode, duration_ms = line.split()
                next(s for s in services if s.port == int(port)).down(mode, float(duration_ms))
        for service in services:
            if service.up_at_ns and time.monotonic_ns() >= service.up_at_ns:
                service.up()


if __name__ == "__main__":
    main(int(sys.argv[1]))
