"""What the `kube` probe's helper makes of answers that a good API server does not give, but a proxy or a broken one."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]
SPEC = {"namespace": "n", "selector": "app=web"}
POD = {"metadata": {"name": "p", "uid": "1", "resourceVersion": "60"}, "status": {"phase": "Running"}}


class Front(ThreadingHTTPServer):
    """Answers as told. *answers*: to the questions, the last for good; *events*: of the watch; None ends it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers: list[Any] = [{"metadata": {"resourceVersion": "50"}, "items": []}]
        self.list: Json = {"metadata": {"resourceVersion": "10"}, "items": []}
        self.events: queue.Queue[Json | None] = queue.Queue()
        self.watches, self.at_once = 0, False


class _Answer(BaseHTTPRequestHandler):
    server: Front
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "watch=true" in self.path:
            self.server.watches += 1
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while not self.server.at_once and (event := self.server.events.get()) is not None:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
            return
        answers = self.server.answers
        asked = "fieldSelector" in self.path
        document = (answers.pop(0) if len(answers) > 1 else answers[0]) if asked else self.server.list
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def front() -> Iterator[Front]:
    with Front() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.at_once = True
        made.events.put(None)
        made.shutdown()


@pytest.fixture
def said(front: Front, tmp_path: Path) -> Iterator[queue.Queue[Json]]:
    """What a helper says that asks *front*."""
    path = tmp_path / "config"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "users": [{"name": "x", "user": {}}],
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{front.server_port}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }))  # fmt: skip
    command = [sys.executable, "-m", "agent.probes.kube_watch", str(os.getpid()), json.dumps(SPEC)]
    lines: queue.Queue[Json] = queue.Queue()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "KUBECONFIG": str(path)}) as helper:
        assert helper.stdout is not None
        output = helper.stdout
        reader = threading.Thread(target=lambda: [lines.put(json.loads(line)) for line in output], daemon=True)
        reader.start()
        yield lines
        helper.kill()
        reader.join()


def awaited(said: queue.Queue[Json], kind: str) -> Json:
    until = time.monotonic() + 15
    while (line := said.get(timeout=max(0.01, until - time.monotonic())))["kind"] != kind:
        pass
    return line


@pytest.mark.parametrize("broken", [{"metadata": {}}, {}, [], {"metadata": {"resourceVersion": "none"}}])
def test_an_answer_that_cannot_be_read_is_no_data_and_not_the_end(front: Front, broken: Any, request: Any) -> None:
    front.answers.insert(0, broken)
    said = request.getfixturevalue("said")
    assert "cannot be read" in awaited(said, "lost")["why"]
    front.events.put(None)
    awaited(said, "live")


def test_a_watch_that_is_ended_at_once_is_opened_again_in_its_time(front: Front, request: Any) -> None:
    front.at_once = True
    said = request.getfixturevalue("said")
    awaited(said, "state")
    before = front.watches
    time.sleep(3.0)
    assert 1 <= front.watches - before <= 15


def test_what_a_list_shows_after_a_gap_may_be_as_old_as_what_the_watch_had_delivered(
    front: Front, said: queue.Queue[Json]
) -> None:
    proved = awaited(said, "live")["since_ns"]
    proved = max(proved, awaited(said, "live")["since_ns"])  # of version 50, and the watch has delivered up to 10
    front.list = {"metadata": {"resourceVersion": "60"}, "items": [POD]}
    front.events.put({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
    mark = awaited(said, "mark")
    assert mark["mark"] == "pod_created"
    assert 0 < mark["lo_ns"] < proved
