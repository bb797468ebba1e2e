"""HLS playlists: what a master playlist and a media playlist say. Pure, and in one pass: no pattern is ever searched.

Whatever the bytes are, nothing here raises but `MalformedError`.
Source: RFC 8216, section 4; draft-pantos-hls-rfc8216bis (EXT-X-GAP).
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from typing import Final, NamedTuple

from agent.probes.message import MalformedError

PLAYLIST_MAX: Final = 1 << 20  # bytes: nine hours of segments of two seconds
_DIGITS_MAX: Final = 20


class Rung(NamedTuple):
    """One variant of a master playlist."""

    uri: str
    bandwidth_bps: int


class Segment(NamedTuple):
    """One segment. *stamp_s*: wall-clock time of its first frame, seconds since 1970; None: not known."""

    uri: str
    number: int
    duration_s: float
    stamp_s: float | None
    discontinuity: bool  # the timeline starts anew here
    gap: bool  # listed, and known not to be there
    init: str  # uri of its initialization section; empty: none


class Media(NamedTuple):
    """A media playlist."""

    first: int  # number of the first segment
    target_s: float
    segments: list[Segment]
    ended: bool

    @property
    def last(self) -> int:
        """Number of the last segment; one below the first where none is listed."""
        return self.first + len(self.segments) - 1

    @property
    def span_s(self) -> float:
        return sum(segment.duration_s for segment in self.segments)

    def breaks_s(self) -> list[float]:
        """Time between segments that follow each other that no segment covers, by their stamps; below 0: overlap."""
        found = []
        for segment, after in itertools.pairwise(self.segments):
            if segment.stamp_s is not None and after.stamp_s is not None:
                found.append(after.stamp_s - segment.stamp_s - segment.duration_s)
        return found


def read(content: bytes) -> list[Rung] | Media:
    """The rungs of a master playlist in its order, each uri once; or a media playlist."""
    if len(content) > PLAYLIST_MAX:
        raise MalformedError("a playlist larger than a probe should read")
    try:
        lines = [line.strip() for line in content.decode().removeprefix("\ufeff").split("\n")]
    except UnicodeDecodeError as error:
        raise MalformedError("a playlist that is not UTF-8") from error
    if lines[0] != "#EXTM3U":
        raise MalformedError("no playlist: the first line is not #EXTM3U")
    if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return _rungs(lines)
    return _media(lines)


def _rungs(lines: list[str]) -> list[Rung]:
    found: dict[str, Rung] = {}
    bandwidth_bps = -1  # 0 or more: the next line that is no tag names a rung
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            bandwidth_bps = _bandwidth_bps(line.partition(":")[2])
        elif line and not line.startswith("#") and bandwidth_bps >= 0:
            found.setdefault(line, Rung(line, bandwidth_bps))
            bandwidth_bps = -1
    return list(found.values())


def _bandwidth_bps(attributes: str) -> int:
    for attribute in "".join(attributes.split('"')[::2]).split(","):  # what stands in quotes is left out
        name, _, value = attribute.partition("=")
        if name.strip() == "BANDWIDTH":
            return _whole(value)
    return 0


def _media(lines: list[str]) -> Media:
    first, target_s, ended, init = 0, 0.0, False, ""
    segments: list[Segment] = []
    duration_s, stamp_s, discontinuity, gap = -1.0, None, False, False
    for line in lines:
        tag, _, value = line.partition(":")
        match tag:
            case "#EXT-X-MEDIA-SEQUENCE":
                first = _whole(value)
            case "#EXT-X-TARGETDURATION":
                target_s = _seconds(value)
            case "#EXT-X-ENDLIST":
                ended = True
            case "#EXT-X-MAP":
                init = _quoted(value, "URI")
            case "#EXT-X-DISCONTINUITY":
                discontinuity, stamp_s = True, None
            case "#EXT-X-GAP":
                gap = True
            case "#EXT-X-PROGRAM-DATE-TIME":
                stamp_s = _stamp_s(value)
            case "#EXTINF":
                duration_s = _seconds(value.partition(",")[0])
            case _ if line and not line.startswith("#"):
                if duration_s < 0:
                    raise MalformedError("a segment without #EXTINF")
                segments.append(Segment(line, len(segments), duration_s, stamp_s, discontinuity, gap, init))
                stamp_s = None if stamp_s is None else stamp_s + duration_s  # holds until the next stamp
                duration_s, discontinuity, gap = -1.0, False, False
    numbered = [segment._replace(number=first + at) for at, segment in enumerate(segments)]
    return Media(first, target_s, numbered, ended)


def _quoted(attributes: str, name: str) -> str:
    _, found, rest = attributes.partition(f'{name}="')
    return rest.partition('"')[0] if found else ""


def _whole(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise MalformedError(f"{text[:40]!r} is no number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        found = float(text.strip()[:40])
    except ValueError as error:
        raise MalformedError(f"{text[:40]!r} is no duration") from error
    if not (math.isfinite(found) and 0 <= found < 1e6):
        raise MalformedError(f"{text[:40]!r} is no duration")
    return found


def _stamp_s(text: str) -> float:
    """Seconds since 1970; a time without a zone is taken for UTC."""
    try:
        found = dt.datetime.fromisoformat(text.strip()[:40])
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"{text[:40]!r} is no time") from error
