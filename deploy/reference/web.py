"""A small HTTP server of the standard library, made fit for probes at 100 Hz.

Invariant: an answer leaves in one write and needs no name service.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_IDLE_S: Final = 30.0  # an idle connection is closed after this


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "no-store"})


def document(body: object, *, well: bool = True) -> Answer:
    """*body* as JSON: 200 if all is *well*, else 503."""
    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, json.dumps(body).encode() + b"\n")


def not_found(path: str) -> Answer:
    return Answer(HTTPStatus.NOT_FOUND, json.dumps({"error": f"nothing at {path}"}).encode() + b"\n")


def serve(host: str, port: int, answer: Callable[[str], Answer]) -> ThreadingHTTPServer:
    """Listen on *host*:*port* and serve in threads of their own; GET and HEAD, paths without their query."""

    class Exchange(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_S
        wbufsize = -1  # head and body in one segment: two would wait for a delayed acknowledgement
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._reply(answer(self.path.partition("?")[0]), body=True)

        def do_HEAD(self) -> None:
            self._reply(answer(self.path.partition("?")[0]), body=False)

        def _reply(self, given: Answer, *, body: bool) -> None:
            self.send_response(given.status)
            self.send_header("Content-Type", given.content_type)
            self.send_header("Content-Length", str(len(given.body)))
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(given.body)

        def log_message(self, *_: object) -> None:
            """Probes come a hundred times a second: no line for each."""

    server = _Server((host, port), Exchange)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name, which may wait for a name server that is cut off."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no event here."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
