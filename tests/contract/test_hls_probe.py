"""What the probe `hls` tells apart, on a real server and with real pictures."""

from __future__ import annotations

import io
import random

import pytest

from agent.probes.hls import HlsProbe, HlsSpec
from agent.probes.record import Record
from agent.probes.registry import build
from protos.error import SpecError
from protos.recovery import Code
from tests.contract import web_rig
from tests.contract.edge_rig import MASTER, MEDIA, asked
from tests.contract.web_rig import Nginx

pytestmark = pytest.mark.skipif(bool(web_rig.missing()), reason=web_rig.missing() or "-")


@pytest.fixture
def nginx():
    made = Nginx()
    made.start()
    yield made
    made.remove()


def listed(first):
    return MEDIA.replace(":7", f":{first}").replace("seg-7", f"seg-{first}").replace("seg-8", f"seg-{first + 1}")


async def test_a_stream_that_stands_behind_a_healthy_server_is_found_and_its_time_is_counted(nginx):
    now_s = [0.0]
    probe = HlsProbe(HlsSpec(f"{nginx.url}live.m3u8", age_max_s=5.0), clock_s=lambda: now_s[0])
    nginx.write("live.m3u8", listed(1))
    codes = []
    for second in range(30):
        now_s[0] = float(second)
        if second < 10 or second >= 20:
            nginx.write("live.m3u8", listed(second if second < 10 else second - 10))
        codes.append(await probe.attempt(5.0))
    await probe.close()
    assert codes == [Code.OK] * 15 + [Code.BAD] * 5 + [Code.OK] * 10, "the last segment came in second 9"
    assert probe.found() == {"lost_s": 6.0, "missing_s": 0.0}
    assert not probe.figures(Record(1_000_000_000)), "nothing was asked, and there are no stamps"


async def test_a_rung_that_is_gone_old_or_elsewhere(nginx):
    nginx.write("live.m3u8", MASTER)
    nginx.write("low/index.m3u8", MEDIA)
    url = f"{nginx.url}live.m3u8"
    assert await asked("hls", url=url) is Code.BAD
    assert await asked("hls", url=url, rungs_min=1) is Code.OK
    nginx.write("high/index.m3u8", MEDIA)
    assert await asked("hls", url=url) is Code.OK
    assert await asked("hls", url=url, rungs_min=3) is Code.BAD
    assert await asked("hls", url=url, fetch_segment=True) is Code.BAD
    for rung in ("low", "high"):
        nginx.write(f"{rung}/seg-8.m4s", b"x")
    assert await asked("hls", url=url, fetch_segment=True) is Code.OK
    other = nginx.url.replace("127.0.0.1", "localhost")
    nginx.write("live.m3u8", MASTER.replace("high/", f"{other}high/"))
    assert await asked("hls", url=url) is Code.BAD, "the playlist may not send the agent where it likes"
    assert await asked("hls", url=url, origins=[other]) is Code.OK
    nginx.write("high/index.m3u8", "#EXTM3U\n" + "# \n" * 400_000)
    assert await asked("hls", url=url, origins=[other]) is Code.BAD


@pytest.mark.parametrize(
    ("path", "code"), [("none", Code.BAD), ("away/", Code.BAD), ("busy/", Code.BAD), ("text", Code.BAD)]
)
async def test_what_is_no_playlist_is_bad(nginx, path, code):
    nginx.write("text", "hello")
    assert await asked("hls", url=nginx.url + path) is code


def encoded(picture):
    """A segment of 30 pictures as a fragmented MP4."""
    import av

    kept = io.BytesIO()
    with av.open(kept, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=15, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for at in range(30):
            frame = av.VideoFrame(320, 180, "yuv420p")
            for plane, value in zip(frame.planes, (picture(at), b"\x80", b"\x80"), strict=True):
                plane.update((value * plane.buffer_size)[: plane.buffer_size])
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return kept.getvalue()


async def test_black_and_frozen_pictures_are_seen_beside_the_attempts(nginx):
    noise = random.Random(1).randbytes(4096)
    kinds = {"": lambda at: noise[at * 100 :], "are black": lambda _at: b"\x10", "stand still": lambda _at: noise}
    for complaint, picture in kinds.items():
        nginx.write("seg-8.m4s", encoded(picture))
        nginx.write("live.m3u8", MEDIA)
        probe = build("hls", {"url": f"{nginx.url}live.m3u8", "look_every": 1}, lambda _: False)
        assert await probe.attempt(5.0) is Code.OK, "a look is not waited for"
        await probe._looker._task
        assert probe._looker.looks == 1
        assert probe._looker.complaint.endswith(complaint)
        assert await probe.attempt(5.0) is (Code.BAD if complaint else Code.OK)
        await probe.close()
    nginx.write("seg-8.m4s", b"no video")
    probe = build("hls", {"url": f"{nginx.url}live.m3u8", "look_every": 1}, lambda _: False)
    await probe.attempt(5.0)
    await probe._looker._task
    assert (await probe.attempt(5.0), probe._looker.looks) == (Code.OK, 0), "what cannot be decoded says nothing"
    await probe.close()


def test_pictures_without_a_decoder_are_refused(monkeypatch):
    monkeypatch.setattr("agent.probes.hls.find_spec", lambda _name: None)
    with pytest.raises(SpecError, match="media"):
        build("hls", {"url": "http://x/", "look_every": 5}, lambda _: False)
