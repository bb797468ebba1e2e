"""HTTP/1.1 for the pipeline's programs: methods and paths in, a status and a body out.

As little of it as they need: bodies come with a Content-Length, and what is malformed ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

Handler = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]  # method, path, body -> status, body
_BODY_MAX = 1 << 20
_REASONS = {200: "OK", 201: "Created", 204: "No Content", 404: "Not Found", 405: "Method Not Allowed"}


async def serve(listen: str, handler: Handler) -> None:
    """Answers on `host:port` until it is cancelled."""
    host, _, port = listen.rpartition(":")

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await _exchange(reader, writer, handler):
                pass
        writer.close()

    async with await asyncio.start_server(connection, host, int(port)) as server:
        await server.serve_forever()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> bool:
    """One request and its answer; whether another may follow."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _BODY_MAX:
        return False
    status, body = await handler(method, path, await reader.readexactly(length))
    reason = _REASONS.get(status, "Service Unavailable")
    writer.write(f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return headers.get("connection", "").lower() != "close"
