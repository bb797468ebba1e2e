"""The playlists of one channel, kept correct across crashes.

Invariant: segment numbers never go back and are never given twice to what a client has been shown; the rungs of a
channel share one timeline, so their media playlists have the same text.

A segment's files are written for every rung before any playlist names it, and the first rung's playlist is written
first: it is the truth that a restart reads, and rewriting the others from it rolls a half-done step forward.

Source: RFC 8216, sections 4.3.2, 4.3.3 and 6.2.2.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lifeline import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LISTED: Final = 6  # segments in the playlist
KEPT: Final = 6  # segments that stay on disk after they left it, for clients that hold an older copy
_NUMBER: Final = re.compile(r"^seg-(\d+)\.m4s$")
_INIT: Final = re.compile(r"^init-(\d+)\.mp4$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One segment in the playlist."""

    number: int
    duration_s: float
    started: str  # wall-clock time of its first frame, ISO 8601
    init: int  # number of its initialization section
    discontinuity: bool  # the timeline starts anew here

    @property
    def name(self) -> str:
        return f"seg-{self.number:06d}.m4s"


@dataclass(slots=True)
class Playlist:
    """The sliding window of a channel."""

    entries: list[Entry] = field(default_factory=list)
    discontinuities: int = 0  # that have left the window

    @property
    def next_number(self) -> int:
        return self.entries[-1].number + 1 if self.entries else 0

    def append(self, entry: Entry) -> None:
        """Add *entry* and let the window slide."""
        self.entries.append(entry)
        while len(self.entries) > LISTED:
            self.discontinuities += self.entries.pop(0).discontinuity

    def text(self) -> str:
        """The media playlist."""
        longest_s = max(entry.duration_s for entry in self.entries)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:7",
            f"#EXT-X-TARGETDURATION:{math.ceil(longest_s)}",
            f"#EXT-X-MEDIA-SEQUENCE:{self.entries[0].number}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{self.discontinuities}",
            "#EXT-X-INDEPENDENT-SEGMENTS",
        ]
        init = None
        for entry in self.entries:
            if entry.discontinuity:
                lines.append("#EXT-X-DISCONTINUITY")
            if entry.init != init:
                init = entry.init
                lines.append(f'#EXT-X-MAP:URI="{init_name(init)}"')
            lines += [f"#EXT-X-PROGRAM-DATE-TIME:{entry.started}", f"#EXTINF:{entry.duration_s:.6f},", entry.name]
        return "\n".join(lines) + "\n"

    def publish(self, folders: Sequence[Path]) -> None:
        """Write the playlist of every rung, the first folder first, and remove the files that nobody can ask for."""
        text = self.text().encode()
        for folder in folders:
            write_atomically(folder / "index.m3u8", text)
        for folder in folders:
            (folder / f"seg-{self.entries[0].number - KEPT - 1:06d}.m4s").unlink(missing_ok=True)

    def sweep(self, folders: Sequence[Path]) -> None:
        """Remove what a crash left: half-written files, and files older than anything still kept."""
        first = self.entries[0].number - KEPT if self.entries else 0
        oldest_init = self.entries[0].init if self.entries else 0
        for path in (path for folder in folders for path in folder.iterdir()):
            number, init = _NUMBER.match(path.name), _INIT.match(path.name)
            stale = (number and int(number[1]) < first) or (init and int(init[1]) < oldest_init)
            if stale or path.suffix == ".tmp":
                path.unlink()


def init_name(number: int) -> str:
    """File name of the initialization section that begins at segment *number*."""
    return f"init-{number:06d}.mp4"


def load(path: Path) -> Playlist:
    """The playlist that an earlier life of the channel left at *path*; empty if there is none.

    Raises:
        ValueError: the file is not one of ours; the message names it.
    """
    playlist = Playlist()
    if not path.exists():
        return playlist
    number, init, duration_s, started, discontinuity = 0, 0, 0.0, "", False
    try:
        for line in path.read_text().splitlines():
            tag, _, value = line.partition(":")
            match tag:
                case "#EXT-X-DISCONTINUITY-SEQUENCE":
                    playlist.discontinuities = int(value)
                case "#EXT-X-DISCONTINUITY":
                    discontinuity = True
                case "#EXT-X-MAP":
                    init = int(value.split('"')[1].removeprefix("init-").removesuffix(".mp4"))
                case "#EXT-X-PROGRAM-DATE-TIME":
                    started = value
                case "#EXTINF":
                    duration_s = float(value.rstrip(","))
                case _ if line and not line.startswith("#"):
                    number = int(line.removeprefix("seg-").removesuffix(".m4s"))
                    playlist.entries.append(Entry(number, duration_s, started, init, discontinuity))
                    discontinuity = False
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a playlist of this farm ({error}); remove the file") from error
    return playlist


def multivariant(rungs: Mapping[tuple[int, int], tuple[int, str]], frame_rate: int, names: Sequence[str]) -> str:
    """The playlist of a channel's rungs.

    Args:
        rungs: by (width, height): peak bit rate in bits per second, and codecs as RFC 6381 writes them.
        frame_rate: frames per second.
        names: the folder of each rung, in the order of *rungs*.
    """
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for ((width, height), (peak_bps, codecs)), name in zip(rungs.items(), names, strict=True):
        lines.append(
            f"#EXT-X-STREAM-INF:BANDWIDTH={peak_bps},RESOLUTION={width}x{height},"
            f'FRAME-RATE={frame_rate:.3f},CODECS="{codecs}"'
        )
        lines.append(f"{name}/index.m3u8")
    return "\n".join(lines) + "\n"
