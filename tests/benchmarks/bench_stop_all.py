"""Stop-all: from the call of `Operator.Stop` until the last effect has ended.

Goal: p99 within 250 ms. Over 1,000 simulated agents, each told over a stream of its own, beside the bare broadcast of
the same messages; and over real agents with a real effect each, seen from outside. Run by `make bench`.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from blackstart.client import Client
from blackstart.settings import Settings
from tests.benchmarks.stop_fleet import FAULT
from tests.integration.controller_rig import ControllerProcess
from tests.integration.test_spine import driving

AGENTS, FLEETS, STOPS = 1000, 2, int(os.environ.get("BENCH_STOPS", "25"))
REAL = 20
GOAL_MS = 250.0
ROOM = {"BLACKSTART_CONTROLLER_BUDGET__TARGETS_MAX": "5000", "BLACKSTART_CONTROLLER_BUDGET__TARGETS_FRACTION": "1.0",
        "BLACKSTART_CONTROLLER_HEARTBEAT_S": "2", "BLACKSTART_CONTROLLER_LEASE_S": "30"}  # fmt: skip


@dataclass
class Series:
    """Latencies of one kind of stop, ms, and the processor time of all processes in each."""

    name: str
    ended_ms: list[float] = field(default_factory=list)  # until the last agent had ended its effect
    returned_ms: list[float] = field(default_factory=list)  # until the call returned
    cpu_ms: list[float] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        for what, values in (("last effect ended", self.ended_ms), ("call returned", self.returned_ms)):
            if values:
                row = sorted(values)
                p50, p99 = statistics.median(row), row[max(0, math.ceil(0.99 * len(row)) - 1)]
                cpu = statistics.median(self.cpu_ms)
                goal = f"{p99 / GOAL_MS:7.2f}" if what == "last effect ended" else f"{'':7}"
                yield f"{self.name:34} {what:18} {len(row):4} {p50:8.1f} {p99:8.1f} {row[-1]:8.1f} {goal} {cpu:9.0f}"


HEADING = f"{'stop of':34} {'until':18} {'n':>4} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'of goal':>7} {'CPU ms':>9}"


class Fleet:
    """Processes that hold simulated agents."""

    def __init__(self, address: str, authority: Path) -> None:
        each = AGENTS // FLEETS
        command = [sys.executable, "-m", "tests.benchmarks.stop_fleet", address, str(authority)]
        self.processes = [
            subprocess.Popen(
                [*command, str(at * each), str(each)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for at in range(FLEETS)
        ]

    def tally(self) -> tuple[int, int, float]:
        """(agents told since the last look, ns at which the last of them was, processor seconds)."""
        rows = []
        for process in self.processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("?\n")
            process.stdin.flush()
            rows.append(json.loads(process.stdout.readline()))
        return sum(row["told"] for row in rows), max(row["last_ns"] for row in rows), sum(row["cpu_s"] for row in rows)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def cpu_s(*processes: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def connected(client: Client, count: int, timeout_s: float = 120.0) -> None:
    until = time.monotonic() + timeout_s
    while sum(agent.connected for agent in client.agents()) < count:
        assert time.monotonic() < until, "the agents did not connect"
        time.sleep(0.5)


def stops(
    series: Series, client: Client, server: psutil.Process, fleet: Fleet, prepare: Callable[[], object],
    count: int = STOPS,
) -> None:  # fmt: skip
    """Stops again and again; *prepare* puts something in force before each."""
    for _ in range(count):
        prepare()
        time.sleep(0.3)
        _, _, before_s = fleet.tally()
        used_s, begun_ns = cpu_s(server), time.monotonic_ns()
        client.stop("bench")
        returned_ns, server_s = time.monotonic_ns(), cpu_s(server) - used_s
        told, last_ns, after_s = fleet.tally()
        assert told == AGENTS
        series.ended_ms.append((last_ns - begun_ns) / 1e6)
        series.returned_ms.append((returned_ns - begun_ns) / 1e6)
        series.cpu_ms.append((server_s + after_s - before_s) * 1000)
        client.lift("bench")


@contextlib.contextmanager
def bare(authority: Path) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "tests.benchmarks.stop_bare", str(authority)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"], psutil.Process(process.pid)
        process.kill()


@pytest.mark.benchmark
@pytest.mark.timeout(1500)
def test_stop_of_a_thousand_simulated_agents(tmp_path: Path) -> None:
    table = []
    with ControllerProcess(tmp_path / "controller", **ROOM) as rig:
        authority = rig.state / "pki" / "ca"
        admin = rig.state / "admin"
        with contextlib.ExitStack() as stack:
            address, process = stack.enter_context(bare(authority))
            fleet = Fleet(address, authority)
            stack.callback(fleet.close)
            client = stack.enter_context(Client(Settings(address, admin)))
            connected(client, AGENTS)
            table.append(Series("bare broadcast, 1,000 streams"))
            stops(table[-1], client, process, fleet, lambda: None)
        with contextlib.ExitStack() as stack:
            fleet = Fleet(rig.ready["address"], authority)
            stack.callback(fleet.close)
            client = stack.enter_context(Client(Settings(rig.ready["address"], admin)))
            connected(client, AGENTS)
            server = psutil.Process(rig.process.pid)
            table.append(Series("1,000 agents at rest"))
            stops(table[-1], client, server, fleet, lambda: None)
            table.append(Series("1,000 agents, an effect each"))
            runs = stack.enter_context(contextlib.ExitStack())
            stops(table[-1], client, server, fleet, lambda: everywhere(runs, client), max(3, STOPS // 5))
    print(f"\n{HEADING}", *(line for one in table for line in one.lines()), sep="\n")
    print("CPU: of the server and of the simulated agents together, which share this machine's processors")
    assert all(one.ended_ms for one in table)


def everywhere(runs: contextlib.ExitStack, client: Client) -> None:
    """One effect on each agent, of a run of its own."""
    run_id = runs.enter_context(driving(client, "bench"))
    arguments = {
        "fault": FAULT,
        "targets": {"labels": {"role": "bench"}, "pick": "all"},
        "name": "all",
        "duration_s": 300,
    }
    assert len(client.invoke(run_id, "inject", arguments)["effects"]) == AGENTS


TARGET = """
import mmap, os, struct, sys, time
at = int(sys.argv[2]) * 8
with open(sys.argv[1], "r+b") as file:
    page = mmap.mmap(file.fileno(), 0)
last = time.monotonic_ns()
while True:
    now = time.monotonic_ns()
    if now - last > 40_000_000:
        page[at:at + 8] = struct.pack("q", now)
    last = now
    time.sleep(0.002)
"""


class Real:
    """Agent processes, each with a target of its own that writes down when it ran again after a standstill."""

    def __init__(self, rig: ControllerProcess, folder: Path, stack: contextlib.ExitStack) -> None:
        self._page = folder / "page"
        self._page.write_bytes(bytes(8 * REAL))
        (folder / "policy.yaml").write_text("faults: [process.pause]\n")
        self.agents, self.targets = [], []
        for at in range(REAL):
            certs = rig.certificate(f"real-{at}", "agent")
            command = [sys.executable, "-m", "agent", "run", "--id", f"real-{at}", "--label", f"at={at}",
                       "--controller", rig.ready["address"], "--state", str(folder / f"state-{at}"),
                       "--certs", str(certs), "--policy", str(folder / "policy.yaml")]  # fmt: skip
            with (folder / f"agent-{at}.log").open("wb") as log:
                agent = subprocess.Popen(command, stderr=log)
            target = subprocess.Popen([sys.executable, "-c", TARGET, str(self._page), str(at)])
            stack.callback(_end, agent, target)
            self.agents.append(psutil.Process(agent.pid))
            self.targets.append(target.pid)

    def resumed_ns(self) -> list[int]:
        """When each target ran again, the last time that it stood still."""
        with self._page.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as page:
            return list(struct.unpack(f"{REAL}q", page[:]))

    def pause_all(self, client: Client, run_id: str) -> None:
        def one(at: int) -> bool:
            arguments = {"fault": "process.pause", "targets": {"labels": {"at": str(at)}}, "name": f"pause-{at}",
                         "spec": {"pid": self.targets[at]}, "duration_s": 120}  # fmt: skip
            return bool(client.invoke(run_id, "inject", arguments)["effects"])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(REAL)))


def _end(agent: subprocess.Popen[bytes], target: subprocess.Popen[bytes]) -> None:
    agent.terminate()
    agent.wait(20)
    target.kill()
    target.wait()


@pytest.mark.benchmark
@pytest.mark.timeout(1500)
def test_stop_of_real_agents(tmp_path: Path) -> None:
    series, command = Series(f"{REAL} real agents, process.pause"), Series("the same, `blackstart stop --all`")
    with ControllerProcess(tmp_path / "controller", **ROOM) as rig, contextlib.ExitStack() as stack:
        real = Real(rig, tmp_path, stack)
        admin = rig.state / "admin"
        client = stack.enter_context(Client(Settings(rig.ready["address"], admin)))
        connected(client, REAL)
        server = psutil.Process(rig.process.pid)
        environment = os.environ | {"BLACKSTART_CONTROLLER": rig.ready["address"], "BLACKSTART_CERTS": str(admin)}
        shell = [str(Path(sys.executable).with_name("blackstart")), "stop", "--all"]

        def by_command() -> None:
            subprocess.run(shell, env=environment, check=True, capture_output=True)

        for row, call, count in ((series, lambda: client.stop("bench"), STOPS), (command, by_command, 10)):
            for _ in range(count):
                run_id = stack.enter_context(driving(client, "bench"))
                real.pause_all(client, run_id)
                time.sleep(0.5)
                used_s, begun_ns = cpu_s(server, *real.agents), time.monotonic_ns()
                call()
                row.returned_ms.append((time.monotonic_ns() - begun_ns) / 1e6)
                row.cpu_ms.append((cpu_s(server, *real.agents) - used_s) * 1000)
                time.sleep(0.3)
                resumed = real.resumed_ns()
                assert min(resumed) > begun_ns, "every target ran again after the call"
                row.ended_ms.append((max(resumed) - begun_ns) / 1e6)
                client.lift("bench")
                while client.show(run_id)[0].state != "ended":
                    time.sleep(0.05)
    print(f"\n{HEADING}", *series.lines(), *command.lines(), sep="\n")
    print("ended: the target's own clock, which it reads every 2 ms")
