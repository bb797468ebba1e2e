"""Keeps one watch on a Kubernetes API server for one probe: `python -m agent.probes.kube_watch PARENT_PID SPEC`.

Writes a JSON line for each change, stamped on CLOCK_MONOTONIC. A watch that is silent may be dead, or fed by a server
that was cut off from its store: so beside it the server is asked twice a second for a consistent list of one object at
most, which it answers only once its cache has all that the store had when it was asked. Invariant: `live` is written
only for such an answer, while the watch stands; after one that failed the watch is opened anew, from the version that
it had come to, before anything counts again. It ends with its parent. Source: Kubernetes' "API concepts", "Efficient
detection of changes".
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agent.probes.kube_view import Change, State, View, view
from agent.system import kube_access, libc
from protos.error import RefusedError

ASK_S: Final = 0.5  # between two questions whether the server is up to date
CONNECT_S: Final = 2.0
ANSWER_S: Final = 2.0
LIST_S: Final = 30.0
WATCH_S: Final = (240, 300)  # as client-go: the server ends a watch after a random time, so that not all come at once
PAGE: Final = "500"
SETTLE_S: Final = 0.05  # for what the server sends first on a watch that was opened anew
AGAIN_S: Final = (0.1, 2.0)
KEEPALIVE: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]  # fmt: skip

Json = dict[str, Any]


class LostError(Exception):
    """The server did not answer, or not usefully."""


class ExpiredError(Exception):
    """410: the server no longer knows what came after that version."""


class Server:
    """The API server, as the `kubernetes` library reaches it. One thread a request, each may have its own."""

    def __init__(self) -> None:
        self._api = kube_access.api_client(connections=3)
        # an answer that comes only at the third try, seconds later, would say nothing of now
        self._api.rest_client.pool_manager.connection_pool_kw |= {"socket_options": KEEPALIVE, "retries": False}

    def get(self, path: str, query: dict[str, str], read_s: float) -> Any:
        """The answer, of which only the head has been read. LostError, ExpiredError, or RefusedError."""
        from kubernetes.client.rest import ApiException

        try:
            return self._api.call_api(
                path, "GET", query_params=list(query.items()), header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"], _preload_content=False, _request_timeout=(CONNECT_S, read_s),
            )  # fmt: skip
        except ApiException as error:
            said = _message(error.body) or str(error.reason)
            if error.status == 410:
                raise ExpiredError(said) from error
            if error.status and 400 <= error.status < 500 and error.status not in (408, 409, 429):
                raise RefusedError(f"the API server refuses: {said}") from error
            raise LostError(f"the API server says {error.status}: {said}") from error
        except Exception as error:  # foreign: urllib3's, ssl's, and what the library trips over
            raise LostError(f"the API server does not answer: {error!r}") from error

    def document(self, path: str, query: dict[str, str], read_s: float) -> Json:
        """The whole answer."""
        answer = self.get(path, query, read_s)
        try:
            found: Json = msgspec.json.decode(answer.read())
        except Exception as error:
            raise LostError(f"the API server's answer broke off: {error!r}") from error
        finally:
            answer.release_conn()
        return found


class Watcher:
    """List, watch, and the questions beside it; two threads."""

    def __init__(self, seen: View, server: Server) -> None:
        self._view, self._server = seen, server
        self._lock = threading.Lock()
        self._stream: Any = None  # the watch that stands
        self._version = ""
        self._reached = -1  # the version up to which all was delivered
        self._told: State | None = None
        self._proofs: deque[tuple[int, int]] = deque(maxlen=256)  # (version, begin in ns) of each consistent answer
        self._wake = threading.Event()

    def run(self) -> None:
        """Never returns."""
        threading.Thread(target=self._ask_on, daemon=True).start()
        wait_s = AGAIN_S[0]
        while True:
            began_s = time.monotonic()
            try:
                self._follow()  # it ended as agreed; a proxy may end each at once
            except ExpiredError as error:
                self._version = ""
                self._say("expired", str(error))
            except RefusedError as error:
                self._say("refused", str(error))
            except LostError as error:
                self._say("lost", str(error))
            wait_s = AGAIN_S[0] if time.monotonic() - began_s > AGAIN_S[1] else min(2 * wait_s, AGAIN_S[1])
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 no secret

    def _follow(self) -> None:
        """One watch, from its opening to its end."""
        if not self._version:
            try:
                self._list()
            except (KeyError, TypeError, ValueError) as error:
                raise LostError(f"the API server's list cannot be read: {error!r}") from error
        query = self._view.picked | {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*WATCH_S)),  # noqa: S311 no secret
        }  # fmt: skip
        stream = self._server.get(self._view.path, query, ANSWER_S)
        try:
            stream.connection.sock.settimeout(None)  # silence is for the questions beside it to judge
            with self._lock:
                self._stream = stream
            self._wake.set()
            for line in _lines(stream):
                self._event(msgspec.json.decode(line))
        except (ExpiredError, LostError):
            raise
        except Exception as error:  # a connection that breaks does so in many ways
            raise LostError(f"the watch broke off: {error!r}") from error
        finally:
            with self._lock:
                ours, self._stream = self._stream is stream, None
            stream.close()
        if not ours:
            raise LostError("the watch was given up")

    def _list(self) -> None:
        begun_ns, query = time.monotonic_ns(), self._view.picked | {"limit": PAGE}
        items: list[Json] = []
        while True:
            answer = self._server.document(self._view.path, query, LIST_S)
            items += answer.get("items") or ()
            if not (more := answer["metadata"].get("continue")):
                break
            query["continue"] = more
        first, at_ns = self._told is None, time.monotonic_ns()
        version = answer["metadata"]["resourceVersion"]
        number, lo_ns = int(version), self._floor_ns(self._reached + 1)  # what was not delivered came after that
        changes = self._view.replace(items)
        self._version, self._reached = version, number
        self._tell([] if first else changes, lo_ns, at_ns)
        self._prove(number, begun_ns)

    def _event(self, event: Json) -> None:
        at_ns, document = time.monotonic_ns(), event["object"]
        if event["type"] == "ERROR":
            said = document.get("message") or "the watch failed"
            raise ExpiredError(said) if document.get("code") == 410 else LostError(said)
        version = document["metadata"]["resourceVersion"]
        if event["type"] != "BOOKMARK":
            changes = self._view.take(document, deleted=event["type"] == "DELETED")
            self._tell(changes, self._floor_ns(int(version)), at_ns)
        self._version, self._reached = version, int(version)

    def _tell(self, changes: list[Change], lo_ns: int, at_ns: int) -> None:
        """What has changed, and what it amounts to."""
        lines: list[Json] = [
            {"kind": "mark", **change._asdict(), "lo_ns": min(lo_ns, at_ns), "hi_ns": at_ns} for change in changes
        ]
        state, before = self._view.state(), self._told
        if state != before:
            lines.append({"kind": "state", "at_ns": at_ns, **state._asdict()})
        if before is not None and state.good != before.good:
            stamp = max((change.api_time for change in changes), default="")
            text = f"{state.found} of {state.wanted}" + (f"; {stamp} by the API server" if stamp else "")
            mark = Change("ready" if state.good else "not_ready", self._view.resource, text, stamp)
            lines.append({"kind": "mark", **mark._asdict(), "lo_ns": min(lo_ns, at_ns), "hi_ns": at_ns})
        self._told = state
        _write(*lines)

    def _floor_ns(self, version: int) -> int:
        """An instant at which *version* was still to come: versions are numbers that grow (KEP-5504)."""
        return next((begun for known, begun in reversed(self._proofs) if known < version), 0)

    def _prove(self, version: int, begun_ns: int) -> None:
        self._proofs.append((version, begun_ns))

    def _ask_on(self) -> None:
        """The questions beside the watch, without end."""
        last: Any = None
        while True:
            self._wake.wait(ASK_S)
            self._wake.clear()
            if (stream := self._stream) is None:
                continue
            begun_ns = time.monotonic_ns()
            try:
                answer = self._server.document(self._view.path, self._view.asked, ANSWER_S)
                version = int(answer["metadata"]["resourceVersion"])
            except (LostError, ExpiredError, RefusedError) as error:
                self._give_up(stream, str(error))
                continue
            except (KeyError, TypeError, ValueError) as error:
                self._give_up(stream, f"the API server's answer cannot be read: {error!r}")
                continue
            if stream is not last:
                time.sleep(SETTLE_S)
            last = stream
            with self._lock:
                if self._stream is stream:
                    self._prove(version, begun_ns)
                    _write({"kind": "live", "since_ns": begun_ns})

    def _give_up(self, stream: Any, why: str) -> None:
        with self._lock:
            if self._stream is not stream:
                return
            self._stream = None
        self._say("lost", why)
        try:
            stream.shutdown()  # ends the other thread's reading
        except (OSError, ValueError, RuntimeError):
            pass  # it has ended already

    def _say(self, kind: str, why: str) -> None:
        _write({"kind": kind, "why": why[:500], "at_ns": time.monotonic_ns()})


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in stream.stream(None, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)


def _message(body: Any) -> str:
    """What a Status of the API says."""
    try:
        return str(msgspec.json.decode(body or b"{}").get("message") or "")
    except (msgspec.DecodeError, AttributeError):
        return str(body)[:200]


_OUTPUT: Final = threading.Lock()


def _write(*documents: Json) -> None:
    data = b"".join(msgspec.json.encode(document) + b"\n" for document in documents)
    with _OUTPUT:
        while data:
            data = data[os.write(1, data) :]


def main(argv: list[str]) -> None:
    libc.die_with_parent(int(argv[0]))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent, which then ends it
    try:
        server = Server()
    except RefusedError as error:
        _write({"kind": "refused", "why": str(error), "at_ns": time.monotonic_ns()})
        return
    Watcher(view(msgspec.json.decode(argv[1])), server).run()


if __name__ == "__main__":
    main(sys.argv[1:])
