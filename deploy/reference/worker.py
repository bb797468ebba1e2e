"""One encode worker: turns the clips into the live segments of its channel, and says on HTTP whether it gets on.

Invariant: a worker holds no state that its death could lose; what a new one needs stands in its playlist.

Usage: worker.py SETTINGS NUMBER
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import web
from lifeline import announce, die_with_parent, write_atomically
from playlist import Entry, Playlist, init_name, load, multivariant
from settings import Settings, rung_name

if TYPE_CHECKING:
    from encoder import Rung


@dataclass(slots=True)
class Progress:
    """What the HTTP side may know of the encode loop."""

    restarts: int
    segments: int = 0  # since this process started
    last_number: int | None = None
    last_segment_ns: int | None = None  # monotonic
    stalls: int = 0  # times that the loop fell behind by more than a segment and let the lost time go


def main() -> None:
    die_with_parent()
    sys.setswitchinterval(0.001)
    settings, number = Settings.load(Path(sys.argv[1])), int(sys.argv[2])
    name = f"worker-{number}"
    progress = Progress(restarts=announce(settings.run, name))
    web.serve(settings.host, settings.port_base + number, lambda path: _answer(path, name, progress, settings))
    _encode(settings.www / str(number), settings, progress, number)


def _answer(path: str, name: str, progress: Progress, settings: Settings) -> web.Answer:
    if path != "/healthz":
        return web.not_found(path)
    last_ns = progress.last_segment_ns
    age_s = None if last_ns is None else (time.monotonic_ns() - last_ns) / 1e9
    body = {
        "worker": name,
        "pid": os.getpid(),
        "segments": progress.segments,
        "last_segment": progress.last_number,
        "last_segment_age_s": None if age_s is None else round(age_s, 3),
        "stale_after_s": settings.stale_after_s,
        "restarts": progress.restarts,
        "stalls": progress.stalls,
        "clip": settings.provenance,
    }
    return web.document(body, well=age_s is not None and age_s < settings.stale_after_s)


def _encode(channel: Path, settings: Settings, progress: Progress, number: int) -> None:
    """The encode loop; at the pace of the monotonic clock, for ever."""
    from encoder import Rung
    from source import has_sound, live

    folders = [channel / rung_name(height) for _, height in settings.ladder]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    playlist = load(folders[0] / "index.m3u8")
    playlist.sweep(folders)
    sound = has_sound(settings.clips)
    rungs = [
        Rung(size, fps=settings.fps, segment_frames=settings.segment_frames, preset=settings.preset, sound=sound)
        for size in settings.ladder
    ]
    publisher = _Publisher(channel, folders, playlist, settings, progress)
    begun_s = time.monotonic()
    for count, (picture, samples) in enumerate(live(settings.clips, settings.fps, first=number - 1)):
        wait_s = begun_s + count / settings.fps - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        elif wait_s < -settings.segment_s:
            progress.stalls += 1
            begun_s -= wait_s
        done = [rung.feed(picture, samples) for rung in rungs]
        publisher.offer(rungs, done)


class _Publisher:
    """Collects each rung's next segment and publishes them together."""

    def __init__(
        self, channel: Path, folders: list[Path], playlist: Playlist, settings: Settings, progress: Progress
    ) -> None:
        self._channel, self._folders, self._playlist = channel, folders, playlist
        self._settings, self._progress = settings, progress
        self._init = playlist.next_number
        self._resumed = bool(playlist.entries)
        self._waiting: list[list[bytes]] = [[] for _ in folders]
        self._started_s = time.time()

    def offer(self, rungs: list[Rung], done: list[bytes | None]) -> None:
        """Take what each rung completed just now; publish when all have the next segment."""
        for waiting, content in zip(self._waiting, done, strict=True):
            if content is not None:
                waiting.append(content)
        if all(self._waiting):
            self._publish(rungs, [waiting.pop(0) for waiting in self._waiting])

    def _publish(self, rungs: list[Rung], contents: list[bytes]) -> None:
        first = self._progress.segments == 0
        entry = Entry(
            number=self._playlist.next_number,
            duration_s=self._settings.segment_frames / self._settings.fps,
            started=datetime.fromtimestamp(self._started_s, UTC).isoformat(timespec="milliseconds"),
            init=self._init,
            discontinuity=first and self._resumed,
        )
        for folder, rung, content in zip(self._folders, rungs, contents, strict=True):
            if first:
                write_atomically(folder / init_name(self._init), rung.init)
            write_atomically(folder / entry.name, content)
        self._playlist.append(entry)
        self._playlist.publish(self._folders)
        if first:
            table = {rung.size: (rung.peak_bps, rung.codecs()) for rung in rungs}
            text = multivariant(table, self._settings.fps, [folder.name for folder in self._folders])
            write_atomically(self._channel / "master.m3u8", text.encode())
        self._started_s = time.time()
        self._progress.last_number = entry.number
        self._progress.last_segment_ns = time.monotonic_ns()
        self._progress.segments += 1


if __name__ == "__main__":
    main()
