"""`hls`: a live stream is fresh, whole and on all its rungs, as its playlists tell a player.

One attempt fetches the playlist at `url`, and of a master playlist the playlists of its rungs. It finds the stream that
stands still behind an HTTP server in perfect health. Wall clocks are read only against the stream's own stamps: a
segment is old, too, when this agent has not seen a newer one for as long, so that stamps that lie hide nothing.
Source: RFC 8216, sections 4.3 and 6.3.4.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import ClassVar, Final
from urllib.parse import urljoin

import msgspec
import structlog

from agent.probes import m3u8
from agent.probes.base import ProbeSpec
from agent.probes.hls_look import Looker
from agent.probes.hls_rung import Rung
from agent.probes.limit import Limit
from agent.probes.lost import lost_s
from agent.probes.message import MalformedError
from agent.probes.record import Record
from agent.probes.web import Web, WebSpec, failure, usable
from protos.figure import Figure, Measured
from protos.recovery import Code

RUNGS_MAX: Final = 16


class HlsSpec(WebSpec):
    """*age_max_s*: since the end of the newest segment; 0: not judged, a recording. *rungs_min*: that are good; 0: all.

    *gap_max_s*: between two listed segments by their stamps; 0: not judged. *discontinuities_max*: in a playlist; below
    0: any number. *fetch_segment*: the newest one of each rung must be there. *look_every*: after so many attempts,
    pictures of the lowest rung are decoded beside them (PyAV, in a process of its own); 0: never. *origins*: further
    `http://host:port` that playlists may point to.
    """

    age_max_s: float = 10.0
    rungs_min: int = 0
    gap_max_s: float = 0.0
    discontinuities_max: int = -1
    fetch_segment: bool = False
    look_every: int = 0
    origins: list[str] = msgspec.field(default_factory=list)

    def problems(self) -> list[tuple[str, str]]:
        found = super().problems()
        bounds = {"age_max_s": 86_400, "rungs_min": RUNGS_MAX, "gap_max_s": 86_400, "look_every": 1_000_000}
        for name, most in bounds.items():
            if not 0 <= getattr(self, name) <= most:
                found.append((name, f"{getattr(self, name)} is not in 0..{most}"))
        found += [
            ("origins", f"{one!r} is not http:// or https:// with a host") for one in self.origins if not usable(one)
        ]
        if self.look_every and find_spec("av") is None:
            found.append(("look_every", "needs PyAV: pip install 'blackstart[media]'"))
        return found


class HlsProbe:
    """BAD: old, gone back, torn, too few rungs, black or frozen; the log says which, when it changes."""

    kind: ClassVar[str] = "hls"
    spec_type: ClassVar[type[ProbeSpec]] = HlsSpec

    def __init__(self, spec: HlsSpec, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._spec, self._clock_s = spec, clock_s
        self._web = Web(spec, *spec.origins)
        self._rungs: dict[str, Rung] = {}
        self._looker = Looker(self._web, spec.look_every)
        self._log = structlog.get_logger("agent.probes")
        self._said = ""
        self._good_s: float | None = None  # when an attempt last found the stream good
        self.lost_s = 0.0  # between good attempts that had a bad one between them

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        await self._web.open()

    async def attempt(self, timeout_s: float) -> Code:
        begun_s = self._clock_s()
        try:
            async with Limit(timeout_s):
                code, why = await self._ask(begun_s)
        except OSError as error:
            code, why = failure(error), f"{type(error).__name__}: {error}"
        except MalformedError as error:
            code, why = Code.BAD, str(error)
        if code != Code.ERROR:
            self._note(begun_s, why)
        return code

    async def close(self) -> None:
        await self._looker.close()
        await self._web.close()
        if self.lost_s:
            self._log.info("a stream's lost time", url=self._spec.url, **self.found())

    def found(self) -> dict[str, float]:
        """Seconds in which the stream was not good, and of programme that no segment covers (of the worst rung)."""
        missing_s = max((rung.missing_s for rung in self._rungs.values()), default=0.0)
        return {"lost_s": round(self.lost_s, 3), "missing_s": round(missing_s, 3)}

    def figures(self, record: Record) -> list[Figure]:
        """Stream-minutes that viewers lost, by what *record* saw, and minutes that no segment covers."""
        found = []
        attempts = record.attempts(0)
        if not record.dropped and (lost := lost_s(attempts, time.monotonic_ns())) is not None:
            lo_s, hi_s = lost
            method = "outages that attempts on its playlists saw"
            measured = Measured(method, len(attempts.code), lo_s / 60, hi_s / 60)
            found.append(Figure("stream lost", (lo_s + hi_s) / 120, "stream-minutes", measured))
        if any(rung.stamped for rung in self._rungs.values()):
            missing = self.found()["missing_s"] / 60
            measured = Measured("stamps of the segments that were listed", len(attempts.code), missing, missing)
            found.append(Figure("programme missing", missing, "minutes", measured))
        return found

    async def _ask(self, begun_s: float) -> tuple[Code, str]:
        content = await self._get(self._spec.url)
        playlist = m3u8.read(content)
        if isinstance(playlist, m3u8.Media):
            why = await self._judge(self._spec.url, playlist, begun_s)
            lowest = (self._spec.url, playlist)
        else:
            why, lowest = await self._ladder(playlist, begun_s)
        self._looker.glance(*lowest)
        why = why or self._looker.complaint
        return (Code.BAD if why else Code.OK), why

    async def _ladder(self, rungs: list[m3u8.Rung], begun_s: float) -> tuple[str, tuple[str, m3u8.Media]]:
        """What is wrong with the rungs together; and the playlist of the lowest that is good."""
        if not 0 < len(rungs) <= RUNGS_MAX:
            raise MalformedError(f"{len(rungs)} rungs, not 1..{RUNGS_MAX}")
        ordered = sorted(rungs, key=lambda rung: rung.bandwidth_bps)
        urls = [urljoin(self._spec.url, rung.uri) for rung in ordered]
        answers = await asyncio.gather(*(self._rung(url, begun_s) for url in urls), return_exceptions=True)
        good: list[tuple[str, m3u8.Media]] = []
        bad: list[str] = []
        errors: list[OSError] = []
        for url, answer in zip(urls, answers, strict=True):
            if isinstance(answer, OSError):
                errors.append(answer)
                bad.append(f"{url}: {type(answer).__name__}: {answer}")
            elif isinstance(answer, MalformedError):
                bad.append(f"{url}: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            elif answer[1]:
                bad.append(f"{url}: {answer[1]}")
            else:
                good.append((url, answer[0]))
        wanted = self._spec.rungs_min or len(rungs)
        if len(good) >= wanted:
            return "", good[0]
        if len(errors) == len(urls):
            raise next((error for error in errors if failure(error) == Code.ERROR), errors[0])
        why = f"{len(good)} of {wanted} rungs are good: {'; '.join(bad) or 'the others are not listed'}"
        return why, good[0] if good else ("", m3u8.Media(0, 0, [], ended=False))

    async def _rung(self, url: str, begun_s: float) -> tuple[m3u8.Media, str]:
        playlist = m3u8.read(await self._get(url))
        if not isinstance(playlist, m3u8.Media):
            raise MalformedError("a rung that is a master playlist")
        return playlist, await self._judge(url, playlist, begun_s)

    async def _judge(self, url: str, playlist: m3u8.Media, begun_s: float) -> str:
        rung = self._rungs.get(url)
        if rung is None:
            if len(self._rungs) >= 4 * RUNGS_MAX:  # names that change all the time
                self._rungs.clear()
            rung = self._rungs[url] = Rung()
        why = rung.judge(
            playlist, begun_s=begun_s, now_s=self._clock_s(), wall_s=time.time(), age_max_s=self._spec.age_max_s,
            gap_max_s=self._spec.gap_max_s, discontinuities_max=self._spec.discontinuities_max,
        )  # fmt: skip
        if not why and self._spec.fetch_segment:
            newest = urljoin(url, playlist.segments[-1].uri)
            status = (await self._web.ask("GET", newest, body=False, headers={"Range": "bytes=0-0"})).status
            why = "" if status in (200, 206) else f"the newest segment is answered by {status}"
        return why

    async def _get(self, url: str) -> bytes:
        status, body = await self._web.ask("GET", url)
        if status != 200:
            raise MalformedError(f"a playlist is answered by {status}")
        return body

    def _note(self, begun_s: float, why: str) -> None:
        """Adds up the time lost, and says what is wrong once, not at every attempt."""
        if not why:
            if self._said and self._good_s is not None:
                self.lost_s += max(0.0, begun_s - self._good_s)
            if self._said:
                self._log.info("a stream is good again", url=self._spec.url, **self.found())
            self._good_s = max(begun_s, self._good_s or begun_s)
        elif not self._said:
            self._log.info("a stream is bad", url=self._spec.url, why=why[:500])
        self._said = why
