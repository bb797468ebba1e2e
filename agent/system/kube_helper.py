"""The helper process through which an agent talks to Kubernetes: `python -m agent.system.kube_helper`.

One request a line comes in, one answer a line goes out (`agent.system.kube`). It ends with its input, and when nobody
has asked for a while: an agent at rest has no such process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import Any

from agent.system.kube_client import Client
from agent.system.kube_wire import KubeError


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent, which then ends it
    try:
        client = Client()
    except KubeError as error:
        _write({"error": str(error)})
        return
    _write({"ready": True})
    rest, until = b"", time.monotonic() + 60.0
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while (left_s := until - time.monotonic()) > 0:
        if not poll.poll(left_s * 1000):
            continue
        if not (chunk := os.read(0, 1 << 16)):
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            _write(_answer(client, asked))
            until = max(until, time.monotonic() + asked["keep_s"])


def _answer(client: Client, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = client.request(
            asked["method"], asked["path"], query=asked["query"], body=asked["body"], content=asked["content"]
        )
    except KubeError as error:
        return {"error": str(error), "status": error.status}
    return answer._asdict()


def _write(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        pass  # the agent is gone, and nobody waits for the answer
