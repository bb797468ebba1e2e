"""Where a probe connects to, and byte streams to it that cost little.

Plain TCP goes through the loop's socket calls, a third of the price of asyncio's streams; TLS goes through those.
Invariant: a stream that is not closed belongs to exactly one attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import ssl
import threading
import time
from typing import Any, Final, Protocol

CHUNK: Final = 65_536
LOOKUPS_MAX: Final = 128  # threads
RESOLVE_S: Final = 1.0  # a name is looked up again after a failure, at most this often


class Stream(Protocol):
    """A connected byte stream."""

    async def send(self, content: bytes) -> None: ...
    async def receive(self) -> bytes:
        """The next bytes; empty at the end of the stream."""
        ...

    def close(self) -> None: ...


class PlainStream:
    """TCP without TLS."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self._loop = connected, asyncio.get_running_loop()

    async def send(self, content: bytes) -> None:
        await self._loop.sock_sendall(self._socket, content)

    async def receive(self) -> bytes:
        return await self._loop.sock_recv(self._socket, CHUNK)

    def close(self) -> None:
        self._socket.close()


class TlsStream:
    """TLS over TCP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(CHUNK)

    def close(self) -> None:
        self._writer.transport.abort()  # a frozen peer would hold up an orderly end


class Endpoint:
    """A host and port, with TLS if *context* is given; *fresh_lookup*: its name is looked up for each connection."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext | None = None, *, fresh_lookup: bool = False
    ) -> None:
        self._host, self._port, self._context = host, port, context
        self._fresh_lookup = fresh_lookup and not _is_numeric(host)
        self._address: tuple[socket.AddressFamily, Any] | None = None
        self._lookup: asyncio.Task[None] | None = None
        self._lookups = 0  # of single connections, under way
        self._looked_up_s = -RESOLVE_S

    async def open(self) -> None:
        """Looks the name up; one that does not resolve yet is looked up again by the attempts."""
        try:
            await self._resolve()
        except socket.gaierror:
            self._address = None

    async def connect(self) -> Stream:
        """A fresh connection. OSError as the kernel or TLS has it, gaierror for a name that does not resolve."""
        if self._fresh_lookup:
            family, address = await self._looked_up()
        else:
            if self._address is None:
                await asyncio.shield(self._looking_up())
            assert self._address is not None
            family, address = self._address
        plain = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await _connected(plain, address)
            if self._context is None:
                return PlainStream(plain)
            return TlsStream(*await asyncio.open_connection(sock=plain, ssl=self._context, server_hostname=self._host))
        except BaseException as error:
            plain.close()
            if isinstance(error, OSError):
                self._doubt()
            raise

    async def close(self) -> None:
        """Ends a lookup that is still under way."""
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.gather(self._lookup, return_exceptions=True)
            self._lookup = None

    def _doubt(self) -> None:
        """After a failure: the name may point elsewhere by now."""
        if self._fresh_lookup:
            return
        if time.monotonic() - self._looked_up_s >= RESOLVE_S and not _is_numeric(self._host):
            self._looking_up()

    def _looking_up(self) -> asyncio.Task[None]:
        if self._lookup is None or (self._lookup.done() and time.monotonic() - self._looked_up_s >= RESOLVE_S):
            self._lookup = asyncio.get_running_loop().create_task(self._resolve())
            self._lookup.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._lookup

    async def _looked_up(self) -> tuple[socket.AddressFamily, Any]:
        """A lookup for one connection alone, by the system's resolver: its waiting is that of any client.

        A thread of its own each, which the system may hold for longer than the attempt lasts; a process need not wait
        for it at its end. Too many at a time are our shortage, and say nothing of the service.
        """
        if self._lookups >= LOOKUPS_MAX:
            raise OSError(errno.EAGAIN, f"{LOOKUPS_MAX} lookups of {self._host} are under way")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[socket.AddressFamily, Any]] = loop.create_future()

        def look() -> None:
            try:
                family, _, _, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
                told = functools.partial(self._tell, answer, (family, address), None)
            except OSError as error:
                told = functools.partial(self._tell, answer, None, error)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(told)

        self._lookups += 1
        threading.Thread(target=look, name=f"lookup {self._host}", daemon=True).start()
        return await answer

    def _tell(self, answer: asyncio.Future[Any], found: Any, error: OSError | None) -> None:
        self._lookups -= 1
        if answer.done():  # the attempt did not wait for it
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    async def _resolve(self) -> None:
        self._looked_up_s = time.monotonic()
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        self._address = family, address


async def _connected(plain: socket.socket, address: Any) -> None:
    """Connects; to a peer on this node without a turn of the loop, since the kernel is through at once."""
    if plain.connect_ex(address) == errno.EINPROGRESS:
        try:
            plain.getpeername()
        except OSError:
            await asyncio.get_running_loop().sock_connect(plain, address)
        return
    if error := plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))


def _is_numeric(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
