"""The model's word against the node's: throughput and mean wait, predicted and then measured at three loads.

The service times are measured first, with one job and with as many as there are workers; what is predicted is the very
sequence of arrivals that is then really run. Goals: 10 % on throughput, 20 % on mean wait. Run by `make bench`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")
from agent.workloads.encode import arrivals
from agent.workloads.encode.spec import parse
from agent.workloads.encode_workload import EncodeWorkload, Limits
from experiments.performance.model import projection

WORKERS = int(os.environ.get("BLACKSTART_BENCH_WORKERS", str(os.cpu_count() or 1)))
LEVEL_S = float(os.environ.get("BLACKSTART_BENCH_LEVEL_S", "90"))
SIMULATIONS = 40
BASE = {
    "inputs": [{"pattern": "testsrc2", "width": 640, "height": 360, "duration_s": float(seconds), "seed": seconds}
               for seconds in (1, 2, 3, 4)],
    "renditions": [{"height": 360, "crf": 23}, {"height": 180, "crf": 23}],
    "threads": 1, "quality": False, "decode_max": 0,
}  # fmt: skip


def run(folder: Path, **more: Any) -> Any:
    workload = EncodeWorkload(folder, lambda: Limits([], 64), lambda _, text: None)
    return asyncio.run(workload.run("bench", BASE | more)).detail


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_predicted_and_measured(tmp_path: Path) -> None:
    measured = run(tmp_path / "e", closed={"jobs": list(range(1, WORKERS + 1)), "count": 60})
    service = projection.service_of(measured)
    capacity = service.rate(WORKERS)
    slower = ", ".join(f"{one:.3f}" for one in service.slowdown)
    print(f"\n{WORKERS} workers; alone {service.mean_s:.3f} s a video, slowdown {slower}, capacity {capacity:.3f}/s")
    for load in (0.50, 0.70, 0.85):
        asked = {"rates": [load * capacity], "duration_s": LEVEL_S, "workers": WORKERS, "seed": 11}
        (row,) = run(tmp_path / "e", open=asked)["levels"]
        spec = parse(BASE | {"open": asked}).open
        assert spec is not None
        ((_, come),) = arrivals.levels(spec)
        runs = [projection.simulate(service, 1, WORKERS, come, seed) for seed in range(SIMULATIONS)]
        waits = [statistics.fmean(one.wait_s) for one in runs]
        rate, wait = statistics.fmean(one.videos_s for one in runs), statistics.fmean(waits)
        real, done = row["wait_s"]["mean"], row["videos_s"]
        print(
            f"  load {load:.0%}, {row['count']} videos\n"
            f"    videos/s: predicted {rate:.3f}, measured {done:.3f} ({rate / done - 1:+.1%})\n"
            f"    mean wait: predicted {wait:.3f} s (one run ± {statistics.stdev(waits):.3f}), "
            f"measured {real:.3f} s ({wait / real - 1:+.1%})"
        )
