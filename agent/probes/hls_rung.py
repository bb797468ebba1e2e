"""What an agent knows of one media playlist from attempt to attempt, and what that says of the newest look. Pure.

Invariant: attempts overlap, so a look that began before the newest one that was judged changes nothing.
"""

from __future__ import annotations

from agent.probes.m3u8 import Media


class Rung:
    """One media playlist. Times in seconds on a monotonic clock, but for *wall_s*, which stamps are held against."""

    def __init__(self) -> None:
        self._begun_s = self._advanced_s = self._looked_s = 0.0
        self._known: Media | None = None
        self.missing_s = 0.0  # of programme between segments that followed each other, by their stamps
        self.stamped = False  # whether there are any

    def judge(
        self, playlist: Media, *, begun_s: float, now_s: float, wall_s: float, age_max_s: float,
        gap_max_s: float, discontinuities_max: int,
    ) -> str:  # fmt: skip
        """What is wrong with *playlist*, whose fetch began at *begun_s*; empty: nothing."""
        told = self._followed(playlist, begun_s, now_s)
        if not playlist.segments:
            return told or "no segment is listed"
        if age_max_s and (told := told or self._old(playlist, now_s, wall_s, age_max_s)):
            return told
        breaks_s = playlist.breaks_s()
        if not told and gap_max_s and breaks_s and max(map(abs, breaks_s)) > gap_max_s:
            told = f"{max(breaks_s, key=abs):.2f} s between two segments"
        count = sum(segment.discontinuity for segment in playlist.segments)
        if not told and 0 <= discontinuities_max < count:
            told = f"{count} discontinuities"
        return told

    def _followed(self, playlist: Media, begun_s: float, now_s: float) -> str:
        """Holds the segments' numbers against those of the look before."""
        before, told = self._known, ""
        if before is None:
            self._advanced_s = now_s
        elif begun_s < self._begun_s:
            return ""
        elif before.segments and playlist.last < before.first:
            told = f"the segments' numbers went back from {before.last} to {playlist.last}"
        elif before.segments and playlist.first > before.last + 1 and now_s - self._looked_s < before.span_s:
            told = f"segments {before.last + 1} to {playlist.first - 1} were never listed"
        if before is not None and (playlist.last > before.last or told):
            self._advanced_s = now_s
            self._count(before, playlist)
        if before is None or told or playlist.last >= before.last:  # an edge may be one segment behind another
            self._known = playlist
        self._begun_s, self._looked_s = begun_s, now_s
        return told

    def _old(self, playlist: Media, now_s: float, wall_s: float, age_max_s: float) -> str:
        if playlist.ended:
            return "the stream has ended"
        seen_s = now_s - self._advanced_s
        there = [segment for segment in playlist.segments if not segment.gap]
        if not there:
            return "no segment that is listed is there"
        newest = there[-1]
        age_s = seen_s if newest.stamp_s is None else max(seen_s, wall_s - newest.stamp_s - newest.duration_s)
        return f"the newest segment, {newest.number}, is {age_s:.1f} s old" if age_s > age_max_s else ""

    def _count(self, before: Media, playlist: Media) -> None:
        """Adds up what the stamps say is missing between the segments that are new."""
        latest = before.segments[-1].stamp_s if before.segments else None
        if latest is None:
            return
        self.stamped = True
        until_s = latest + before.segments[-1].duration_s
        for segment in playlist.segments:
            if segment.stamp_s is not None and segment.stamp_s > latest:
                self.missing_s += max(0.0, segment.stamp_s - until_s)
                until_s = max(until_s, segment.stamp_s + segment.duration_s)
