"""What an agent costs its node: resident memory and processor time, at rest and with ten 10 Hz HTTP probes.

Bounds (the project's goals): 60 MB and 2 % of a core. Run by `make bench`; never a timed assert in the suite.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from blackstart.client import Client
from blackstart.local.stack import Stack
from tests.integration.test_spine import JOURNAL, driving

RSS_GOAL_MB, CORE_GOAL = 60.0, 0.02
WINDOW_S = 20.0


class Quick(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def cost(process: psutil.Process, seconds: float) -> tuple[float, float]:
    """(MB of resident memory, fraction of a core) over a window; processor time is the kernel's own count."""
    before, begun = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return process.memory_info().rss / 1e6, used / (time.monotonic() - begun)


def bare(port: int, seconds: float) -> float:
    """The bound: the fraction of a core that 100 requests a second cost with plain blocking sockets."""
    begun, used = time.monotonic(), time.thread_time()
    for number in range(int(seconds * 100)):
        time.sleep(max(0.0, begun + number * 0.01 - time.monotonic()))
        with socket.create_connection(("127.0.0.1", port)) as channel:
            channel.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while channel.recv(4096):
                pass
    return (time.thread_time() - used) / (time.monotonic() - begun)


@pytest.mark.benchmark
@pytest.mark.timeout(300)
def test_what_an_agent_costs(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quick)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Stack(tmp_path / "state") as stack:
        stack.controller("127.0.0.1:0")
        stack.agent("bench", {"role": "bench"})
        stack.await_agents(1)
        agent = psutil.Process(stack.members[-1].process.pid)
        guardian = next(child for child in agent.children() if "agent.guardian" in " ".join(child.cmdline()))
        time.sleep(3)
        rows = [("at rest", *cost(agent, WINDOW_S))]
        url = f"http://127.0.0.1:{server.server_port}/"
        for what, spec in (("ten 10 Hz probes", {}), ("ten, kept alive", {"keepalive": True})):
            with Client(stack.settings) as client, driving(client, "bench") as run_id:
                for number in range(10):
                    arguments = {"name": f"p{number}", "kind": "http", "targets": {"labels": {"role": "bench"}},
                                 "spec": {"url": url, **spec}, "interval_ms": 100}  # fmt: skip
                    client.invoke(run_id, "start_probe", arguments)
                time.sleep(2)
                rows.append((what, *cost(agent, WINDOW_S)))
                client.close_run(run_id, JOURNAL)
        bare_core = bare(server.server_port, WINDOW_S / 2)
        print(
            f"\nPython {sys.version.split()[0]}; bare: connect, send, receive, close 100 times a second, nothing else"
        )
        print(f"{'agent':18} {'RSS MB':>8} {'of goal':>8} {'core':>8} {'of goal':>8} {'of bare':>8}")
        for what, rss_mb, core in rows:
            ratios = f"{rss_mb / RSS_GOAL_MB:8.2f} {core:8.2%} {core / CORE_GOAL:8.2f} {core / bare_core:8.2f}"
            print(f"{what:18} {rss_mb:8.1f} {ratios}")
        print(f"{'guardian':18} {guardian.memory_info().rss / 1e6:8.1f}")
    server.shutdown()
    server.server_close()
    assert all(rss > 0 for _, rss, _ in rows)
