"""The worker of the pipeline: takes names from the queue, encodes, and notes in the database what is encoded.

A name stays in a list of the worker's own until its video is done: what was under way when the worker died is done
again. /fresh answers 200 as long as something was encoded within the last seconds, as players of a live stream see it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
import time
from pathlib import Path

import av
import redis.asyncio

sys.path.insert(0, str(Path(__file__).parent))
from api import FAILURES, QUEUE, RETRY_S, connected
from web import serve

_UNDER_WAY = "under-way"
_WAIT_S = 1
_SOURCE = "testsrc2=size=160x90:rate=25:duration=0.4"


class Worker:
    """The loop, and what it last did."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s, self._encoded_s = fresh_s, -fresh_s

    async def run(self) -> None:
        pool = await connected(1)
        queue = redis.asyncio.Redis.from_url(QUEUE, socket_timeout=2 * _WAIT_S)
        while True:
            try:
                while await queue.lmove(_UNDER_WAY, "encode", "RIGHT", "RIGHT"):  # of a life before
                    pass
                while True:
                    if name := await queue.blmove("encode", _UNDER_WAY, _WAIT_S, "RIGHT", "LEFT"):
                        await asyncio.to_thread(encoded)
                        await pool.execute("UPDATE videos SET encoded = true WHERE name = $1", name.decode())
                        await queue.lrem(_UNDER_WAY, 1, name)
                        self._encoded_s = time.monotonic()
            except FAILURES as error:
                print(f"{type(error).__name__}: {error}", flush=True)
                await asyncio.sleep(RETRY_S)

    async def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        del method, body
        if path == "/health":
            return 200, b"ok\n"
        late_s = time.monotonic() - self._encoded_s
        return (200 if late_s <= self._fresh_s else 503), f"encoded {late_s:.3f} s ago\n".encode()


def encoded() -> bytes:
    """Ten pictures as H.264 in MP4: a stand-in for a video, encoded for real."""
    target = io.BytesIO()
    with av.open(_SOURCE, format="lavfi") as source, av.open(target, "w", format="mp4") as output:
        video = output.add_stream("libx264", rate=25, options={"preset": "ultrafast", "threads": "1"})
        video.width, video.height, video.pix_fmt = 160, 90, "yuv420p"
        for frame in source.decode(video=0):
            output.mux(video.encode(frame.reformat(format="yuv420p")))
        output.mux(video.encode(None))
    return target.getvalue()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--fresh-s", type=float, default=2.0)
    options = parser.parse_args()
    worker = Worker(options.fresh_s)
    await asyncio.gather(serve(options.listen, worker.answer), worker.run())


if __name__ == "__main__":
    asyncio.run(main())
