"""A look at the pictures of a segment: black all through, or standing still all through.

It is decoded by PyAV in a process of its own, which bounds its processor time: a decoder costs the agent no memory, and
one that crashes on what it is given takes nothing with it. `python -m agent.probes.hls_look` reads the segment.
Invariant: what could not be decoded is no complaint.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from agent.probes.message import MalformedError

if TYPE_CHECKING:
    from agent.probes.m3u8 import Media
    from agent.probes.web import Web

LOOK_S: Final = 10.0  # for all of it
_CPU_S: Final = 5  # of the decoder
_WIDTH, _HEIGHT = 64, 36  # what pictures are shrunk to
_FRAMES_MAX: Final = 900
_BLACK: Final = 24  # luma; 16 is black in a video
_STILL: Final = 1.0  # mean change of luma between pictures; noise of an encoder stays below


class Looker:
    """Looks at the newest segment of a playlist every so many attempts, one look at a time, beside the attempts."""

    def __init__(self, web: Web, every: int) -> None:
        self._web, self._every, self._count = web, every, 0
        self._task: asyncio.Task[None] | None = None
        self.complaint = ""  # of the last look that saw pictures
        self.looks = 0  # that saw pictures

    def glance(self, url: str, playlist: Media) -> None:
        """Counts an attempt that saw *playlist*, and begins a look when it is time."""
        self._count += 1
        idle = self._task is None or self._task.done()
        if self._every and self._count % self._every == 0 and idle and playlist.segments:
            newest = playlist.segments[-1]
            urls = [urljoin(url, part) for part in (newest.init, newest.uri) if part]
            self._task = asyncio.get_running_loop().create_task(self._look(urls))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self, urls: list[str]) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                parts = [await self._web.ask("GET", url) for url in urls]
                if all(part.status == 200 for part in parts):
                    found = await _seen(b"".join(part.body for part in parts))
                    if found.get("pictures", 0) > 1:
                        self.looks += 1
                        self.complaint = found["complaint"]
        except (OSError, MalformedError):
            pass  # whether segments can be fetched is not what this looks for


async def _seen(content: bytes) -> dict[str, Any]:
    command = [sys.executable, "-m", "agent.probes.hls_look"]
    child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    try:
        answer, _ = await child.communicate(content)
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGKILL)
            await asyncio.shield(child.wait())
    try:
        found: dict[str, Any] = json.loads(answer)
    except ValueError:
        return {}
    return found


def judge(pictures: list[bytes]) -> str:
    """What is wrong with pictures (luma of each) that follow each other; empty: nothing."""
    if all(max(picture) <= _BLACK for picture in pictures):
        return f"{len(pictures)} pictures are black"
    changes = [
        sum(abs(one - other) for one, other in zip(first, second, strict=True)) / len(first)
        for first, second in itertools.pairwise(pictures)
    ]
    return f"{len(pictures)} pictures stand still" if changes and max(changes) < _STILL else ""


def _pictures(content: bytes) -> list[bytes]:
    """Luma of about every fifth picture, shrunk."""
    import io

    import av

    found = []
    with av.open(io.BytesIO(content), "r") as container:
        for at, frame in enumerate(container.decode(video=0)):
            if at >= _FRAMES_MAX:
                break
            if at % 5 == 0:
                plane = frame.reformat(_WIDTH, _HEIGHT, "gray").planes[0]
                rows = bytes(plane)
                found.append(b"".join(rows[y * plane.line_size :][:_WIDTH] for y in range(_HEIGHT)))
    return found


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    pictures = _pictures(sys.stdin.buffer.read())
    print(json.dumps({"pictures": len(pictures), "complaint": judge(pictures) if pictures else ""}))


if __name__ == "__main__":
    main()
