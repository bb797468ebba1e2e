"""The probe `hls` on the reference farm: real video, a worker that stands still, an origin that never noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from agent.probes.hls import HlsProbe, HlsSpec
from protos.recovery import Code

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")
pytest.importorskip("supervisor", reason="needs supervisor: pip install 'blackstart[reference]'")
from tests.integration.test_reference_farm import up

pytestmark = pytest.mark.alone


async def seen(probe, code, within_s):
    """Asks ten times a second until *code* comes; seconds."""
    begun = time.monotonic()
    while await probe.attempt(2.0) is not code:
        assert time.monotonic() - begun < within_s, (code, probe._said)
        await asyncio.sleep(0.1)
    return time.monotonic() - begun


@pytest.mark.timeout(120)
async def test_a_frozen_worker_is_a_stream_that_stands_and_its_time_is_counted(tmp_path):
    with up(tmp_path / "farm") as farm:
        segment_s = farm.status["segment_s"]
        url = f"http://127.0.0.1:{farm.base}/1/master.m3u8"
        limit_s = 3 * segment_s
        probe = HlsProbe(HlsSpec(url, age_max_s=limit_s, fetch_segment=True, look_every=5))
        await probe.open()
        await seen(probe, Code.OK, 15)
        until = time.monotonic() + 6 * segment_s
        while time.monotonic() < until or not probe._looker.looks:
            assert await probe.attempt(2.0) is Code.OK, probe._said
            await asyncio.sleep(0.1)
        assert probe._looker.complaint == ""

        os.kill(farm.pid("worker-1"), signal.SIGSTOP)
        stood = time.monotonic()
        took_s = await seen(probe, Code.BAD, 30)
        assert limit_s - 2 * segment_s < took_s < limit_s + segment_s, probe._said
        assert farm.status_of("/healthz") == 200, "the origin is well, as all that asks it only for a status sees it"
        os.kill(farm.pid("worker-1"), signal.SIGCONT)
        await seen(probe, Code.OK, 60)
        over_s = time.monotonic() - stood
        found = probe.found()
        print(f"bad after {took_s:.1f} s of {limit_s:g}, lost {found['lost_s']:.1f} s of at most {over_s:.1f} s")
        assert 0 < found["lost_s"] < over_s
        await probe.close()
