"""The agent's side of its conversation with Kubernetes: a helper process that is there while it is needed.

Invariant: the agent never imports the `kubernetes` library; the helper has the credentials of the agent's environment
(`agent.system.kube_access`), ends with the agent, and by itself when it has not been asked for a while. A helper that
hangs is killed and replaced at the next request.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

from agent.system.kube_wire import Answer, Json, KubeError

KEEP_S: Final = 60.0  # unasked; whoever has an effect in force asks for more
_START_S: Final = 20.0  # a busy node imports the library slowly
_ANSWER_S: Final = 12.0  # longer than the helper itself waits for the server
_TURN_S: Final = 12.0  # as long as one request before may take: a server that hangs is not asked by all in turn


class Session:
    """One helper, started at the first request. Any thread may ask; they take turns."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._credentials = ""
        self._rest = b""
        self._needed_ns = 0  # until then, CLOCK_MONOTONIC, the helper stays unasked

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
    ) -> Answer:
        """One request; any answer is returned. KubeError when none came.

        Args:
            method: HTTP's.
            path: of the API, quoted already.
            query: by name.
            body: a JSON object.
            content: its type.
        """
        keep_s = max(KEEP_S, (self._needed_ns - time.monotonic_ns()) / 1e9)
        asked = {
            "method": method, "path": path, "query": query or {}, "body": body, "content": content, "keep_s": keep_s,
        }  # fmt: skip
        with self._turn():
            self._begin()
            try:
                answer = self._exchange(asked)
            except (OSError, ValueError) as error:
                self._end()
                raise KubeError(f"the helper that talks to Kubernetes: {error or type(error).__name__}") from error
        if "error" in answer:
            raise KubeError(answer["error"], answer["status"])
        return Answer(**answer)

    def keep(self, for_s: float) -> None:
        """From the next request on, the helper stays at least so long, unasked."""
        self._needed_ns = max(self._needed_ns, time.monotonic_ns() + int(for_s * 1e9))

    def warm(self) -> None:
        """Starts the helper, which takes about a second, before somebody waits for it. Errors come with requests."""
        with contextlib.suppress(KubeError), self._turn():
            self._begin()

    def close(self) -> None:
        """Ends the helper; the next request starts another."""
        with self._lock:
            self._end()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_TURN_S):
            raise KubeError(f"the API server has kept others waiting for {_TURN_S:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _begin(self) -> None:
        """A helper that is ready, with the credentials of now."""
        credentials = os.environ.get("KUBECONFIG", "")
        if self._child is not None and self._child.poll() is None and credentials == self._credentials:
            return
        self._end()
        self._credentials, self._rest = credentials, b""
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.system.kube_helper"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0,
        )  # fmt: skip
        try:
            first = json.loads(self._line(_START_S))
        except (OSError, ValueError) as error:
            self._end()
            raise KubeError(f"the helper that talks to Kubernetes did not start: {error}") from error
        if "error" in first:
            self._end()
            raise KubeError(first["error"])

    def _exchange(self, asked: Json) -> Json:
        assert self._child is not None
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(asked).encode() + b"\n")
        self._child.stdin.flush()
        answer: Json = json.loads(self._line(_ANSWER_S))
        return answer

    def _line(self, timeout_s: float) -> bytes:
        """The helper's next line; OSError when it does not come in time."""
        assert self._child is not None
        assert self._child.stdout is not None
        descriptor, until = self._child.stdout.fileno(), time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise KubeError(f"no answer within {timeout_s:g} s")
            if not (chunk := os.read(descriptor, 1 << 20)):
                raise KubeError("it ended")
            parts.append(chunk)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def _end(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._child = None


SESSION: Final = Session()  # of this process
atexit.register(SESSION.close)
