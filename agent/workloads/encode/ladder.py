"""One file to a ladder of renditions: decoded once, scaled for each rung, encoded, and cut into segments.

Invariant: key frames stand at the same instants in every rung, so that a player can change between them at any segment;
and no picture is dropped or doubled: what is decoded is what each rung has.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
from av.error import FFmpegError
from av.filter.context import FilterContext
from av.filter.graph import Graph
from av.video.frame import VideoFrame

from agent.system import privilege
from agent.workloads.encode import codec, output, source
from agent.workloads.encode.output import TIME_BASE, Pictures, Rung, Sound
from agent.workloads.encode.source import JobError, Look
from agent.workloads.encode.spec import EncodeSpec, Rendition

_SHORT = 0.95  # of the duration that it says it has; a file whose pictures end before was cut off
_DAMAGE_SPARED = 10  # packets that do not decode, and a tenth of the pictures so far


class Made(msgspec.Struct):
    """A job's outcome. Seconds on the monotonic clock; processor seconds of this process with all its threads."""

    frames: int = 0  # decoded, and in each rung
    media_s: float = 0.0  # playing time of the pictures
    step_s: float = 0.0  # of which for the last picture
    longest_s: float = 0.0  # between two pictures, at a variable rate
    sound_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    rungs: list[Rung] = []
    bytes: dict[str, int] = {}  # by rung
    rung_s: dict[str, float] = {}  # the job's own time for scaling, encoding and writing it; threads of encoders run on
    damaged: int = 0  # packets that did not decode


def cpu_s() -> float:
    """Processor seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rungs(spec: EncodeSpec, seen: Look, path: str) -> list[Rung]:
    """The rungs of a file, the highest first: none above its own height, and one of its height where all are.

    Raises:
        JobError: high dynamic range, which the rung's encoder cannot carry over.
        SpecError: a codec that this node cannot use.
    """
    own = max(2, seen.height // 2 * 2)
    fitting = [one for one in spec.renditions if one.height <= own]
    if not fitting:
        lowest = min(spec.renditions, key=lambda one: one.height)
        fitting = [msgspec.structs.replace(lowest, height=own)]
    return [rung(one, seen, spec.threads, path) for one in sorted(fitting, key=lambda one: -one.height)]


def rung(one: Rendition, seen: Look, threads: int, path: str) -> Rung:
    """One rendition of a file of that look."""
    width = max(2, round(seen.width * float(seen.aspect) * one.height / seen.height / 2) * 2)
    name, pix_fmt = codec.choose(one).name, "yuv420p"
    if seen.hdr and not (pix_fmt := codec.ten_bit(name)):
        raise JobError(
            f"{path}: is {seen.hdr} in {seen.bits} bits, which {name} would show as if it were not: encode it as h265 "
            "or av1, which keep it, or convert it first"
        )
    return Rung(f"{one.height}p", width, one.height, name, pix_fmt, codec.options(one, name, threads), one.kbps)


class Job:
    """One file on its way into *folder*. *tick*: called after each picture with the number so far."""

    def __init__(self, path: str, folder: Path, spec: EncodeSpec, tick: Callable[[int], None]) -> None:
        self._path, self._folder, self._spec, self._tick = path, folder, spec, tick
        self._made = Made()
        self._outs: list[Pictures] = []
        self._sinks: list[FilterContext] = []
        self._sound: Sound | None = None
        self._shape: tuple[int, int, str] | None = None
        self._gops = 0  # key frames ordered so far
        self._spent_ns: list[int] = []  # by rung
        self._first_s = self._last_s = -1.0

    def run(self) -> Made:
        """Encodes all of it. JobError for this job's input, `output.DiskError` for a disk that takes no more."""
        made, begun_ns, used_s = self._made, time.monotonic_ns(), cpu_s()
        try:
            # SVT-AV1 takes real-time priority 99 for its caller and its threads where it may: all others would wait
            with privilege.without(privilege.CAP_SYS_NICE), source.opened(self._path) as container:
                seen = source.look(container, self._path)
                made.rungs = rungs(self._spec, seen, self._path)
                self._encode(container, seen)
        except FFmpegError as error:
            raise output.disk(error, self._folder) or JobError(f"{self._path}: {error.strerror}") from error
        made.bytes = {one.name: output.size(self._folder, one.name) for one in made.rungs}
        made.rung_s = {one.name: spent / 1e9 for one, spent in zip(made.rungs, self._spent_ns, strict=True)}
        output.master(self._folder, made.rungs, made.media_s, sound=self._spec.audio if made.sound_s else "")
        made.wall_s, made.cpu_s = (time.monotonic_ns() - begun_ns) / 1e9, cpu_s() - used_s
        return made

    def _encode(self, container: av.container.InputContainer, seen: Look) -> None:
        self._seen, self._video = seen, source.pictures(container)
        self._start_s = container.start_time / av.time_base if container.start_time else 0.0
        self._video.thread_type = "AUTO"
        self._video.codec_context.thread_count = self._spec.threads
        wanted: list[Any] = [self._video]
        if seen.audio and self._spec.audio != "none":
            wanted.append(container.streams.audio[0])
            self._sound = Sound(self._folder, self._spec)
        whole, end_s = False, 0.0
        try:
            for packet in container.demux(wanted):
                if packet.stream is self._video and packet.pts is not None:
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                for frame in self._decoded(packet):
                    if isinstance(frame, VideoFrame):
                        self._picture(frame)
                    elif self._sound is not None:
                        self._sound.take(frame, (frame.time or 0.0) - self._start_s)
            if not self._made.frames:
                raise JobError(f"{self._path}: none of its pictures could be decoded")
            if (end_s - self._start_s) < seen.duration_s * _SHORT - self._step_s:
                there_s = end_s - self._start_s
                raise JobError(f"{self._path}: breaks off after {there_s:.2f} s of {seen.duration_s:.2f} s")
            whole = True
        finally:
            self._close(whole=whole)
        self._made.step_s = self._step_s
        self._made.media_s = self._last_s - self._first_s + self._step_s

    def _close(self, *, whole: bool) -> None:
        """Every file, whatever happens to one of them."""
        errors = []
        for at, out in enumerate(self._outs):
            begun_ns = time.perf_counter_ns()
            try:
                out.close(whole=whole)
            except FFmpegError as error:
                errors.append(error)
            self._spent_ns[at] += time.perf_counter_ns() - begun_ns
        if self._sound is not None:
            try:
                self._made.sound_s = self._sound.close(whole=whole)
            except FFmpegError as error:
                errors.append(error)
        if errors and whole:
            raise errors[0]

    def _decoded(self, packet: Any) -> list[Any]:
        """A packet that is damaged is counted and passed over, as players do; where there are many, the job fails."""
        made = self._made
        made.damaged += bool(packet.is_corrupt)
        try:
            return list(packet.decode())
        except FFmpegError as error:
            made.damaged += 1
            if made.damaged > _DAMAGE_SPARED + made.frames // 10:
                told = f"{self._path}: {made.damaged} of its packets do not decode ({error.strerror})"
                raise JobError(told) from error
            return []

    @property
    def _step_s(self) -> float:
        return 1.0 / (self._seen.fps or 25.0)

    def _picture(self, frame: VideoFrame) -> None:
        at_s = self._instant(frame)
        key = at_s >= self._gops * self._spec.gop_s - 1e-6
        if key:
            self._gops = int(at_s / self._spec.gop_s + 1e-6) + 1
        frame.pts, frame.time_base = round(at_s / TIME_BASE), TIME_BASE
        shape = (frame.width, frame.height, frame.format.name)
        if shape != self._shape:
            self._open(frame, shape)
        self._graph.vpush(frame)
        now_ns = time.perf_counter_ns()
        for at, (out, sink) in enumerate(zip(self._outs, self._sinks, strict=True)):
            scaled = sink.pull()
            assert isinstance(scaled, VideoFrame)
            out.encode(scaled, key=key)
            before_ns, now_ns = now_ns, time.perf_counter_ns()
            self._spent_ns[at] += now_ns - before_ns
        self._made.frames += 1
        self._tick(self._made.frames)

    def _instant(self, frame: VideoFrame) -> float:
        """Seconds from the file's start; a picture whose stamp is missing or not later follows the one before."""
        stamp_s = frame.time
        at_s = self._last_s + self._step_s if stamp_s is None else stamp_s - self._start_s
        if self._first_s < 0:
            self._first_s = at_s = max(0.0, at_s)
        elif at_s <= self._last_s:
            at_s = self._last_s + self._step_s
        if self._last_s >= 0:
            self._made.longest_s = max(self._made.longest_s, at_s - self._last_s)
        self._last_s = at_s
        return at_s

    def _open(self, frame: VideoFrame, shape: tuple[int, int, str]) -> None:
        """The graph for pictures of that shape, and with the first of them the encoders."""
        made, self._shape = self._made, shape
        graph = Graph()
        graph.threads = self._spec.threads
        entry = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=TIME_BASE)
        split = graph.add("split", str(len(made.rungs)))
        entry.link_to(split)
        self._sinks = []
        for at, one in enumerate(made.rungs):
            scale = graph.add("scale", f"{one.width}:{one.height}:flags=bicubic")
            form, ratio, sink = graph.add("format", one.pix_fmt), graph.add("setsar", "1"), graph.add("buffersink")
            split.link_to(scale, at)
            scale.link_to(form)
            form.link_to(ratio)
            ratio.link_to(sink)
            self._sinks.append(sink)
        graph.configure()
        self._graph = graph
        if not self._outs:
            rate = Fraction(self._seen.fps or 25).limit_denominator(1001)
            context = self._video.codec_context
            for one in made.rungs:
                self._outs.append(Pictures(self._folder, one, self._spec, rate, context))
                self._spent_ns.append(0)
