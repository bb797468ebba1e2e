"""What ten 10 Hz HTTP probes cost: processor time and memory of a process that does nothing else.

Run: python -m pytest -s tests/benchmarks/bench_probe_engine.py
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PROBES, INTERVAL_MS = 10, 100
WINDOWS, WINDOW_S = 4, 3  # the cheapest counts: on a busy machine every system call costs more
SERVER = Path(__file__).parents[1] / "integration" / "observed_server.py"
CPU_FRACTION_MAX = 0.02
RSS_MB_MAX = 60.0


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measured(port: int, interval_ms: float, probes: int) -> tuple[float, float, float, int]:
    """Fraction of a core, RSS in MB, 99th percentile of the start lag in ms, attempts."""
    from agent.probes.engine import ProbeEngine

    lags: list[int] = []

    def sink(_run: str, _name: str, _first: int, due: list[int], start: list[int], *_: object) -> None:
        lags.extend(s - d for s, d in zip(start, due, strict=True))

    engine = ProbeEngine(sink=sink)
    for k in range(probes):
        await engine.start("run", f"p{k}", "http", {"url": f"http://127.0.0.1:{port}/"}, interval_ms=interval_ms)
    await asyncio.sleep(1)
    fractions = []
    for _ in range(WINDOWS):
        before_s, began_s = cpu_s(), asyncio.get_running_loop().time()
        await asyncio.sleep(WINDOW_S)
        fractions.append((cpu_s() - before_s) / (asyncio.get_running_loop().time() - began_s))
    rss = rss_mb()
    attempts = await engine.stop("run")
    await engine.close()
    return min(fractions), rss, sorted(lags)[len(lags) * 99 // 100] / 1e6, sum(attempts.values())


def main() -> None:
    with subprocess.Popen([sys.executable, SERVER, "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for probes, interval_ms in ((PROBES, INTERVAL_MS), (1, 10)):
            fraction, rss, lag_ms, attempts = asyncio.run(measured(port, interval_ms, probes))
            print(f"{probes} {1000 // interval_ms} {fraction:.4f} {rss:.1f} {lag_ms:.2f} {attempts}", flush=True)
        assert server.stdin is not None
        server.stdin.close()


@pytest.mark.benchmark
def test_probes_are_cheap() -> None:
    out = subprocess.run(
        [sys.executable, __file__], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    ).stdout
    for line in out.splitlines():
        probes, hertz, fraction, rss, lag_ms, attempts = line.split()
        print(
            f"{probes} probe(s) at {hertz} Hz: {float(fraction):.1%} of a core, RSS {rss} MB, "
            f"start lag p99 {lag_ms} ms, {attempts} attempts"
        )
        assert float(rss) <= RSS_MB_MAX
    assert float(out.split()[2]) <= CPU_FRACTION_MAX


if __name__ == "__main__":
    main()
