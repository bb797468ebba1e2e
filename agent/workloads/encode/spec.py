"""What an encode workload is asked for, and everything that can be wrong with it. Pure.

Invariant: a spec that passes here names its inputs, its ladder and its arrivals without contradiction; whether the
files are there and decode is found by the job that opens them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from protos.error import Problem, SpecError

Json = dict[str, Any]
WHERE: Final = "spec of workload encode"
_NAME: Final = r"^[a-z0-9][a-z0-9_.-]{0,31}$"
_RATE: Final = re.compile(r"^[0-9.]+$")
JOBS_MAX: Final = 100_000
Family = Literal["h264", "h265", "av1"]
Pattern = Literal["testsrc2", "mandelbrot", "noise", "screen"]
Shape = Literal["constant", "ramp", "day", "burst"]


class Input(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One of *path*, *pattern*, or neither: the reference clip. A folder means each of its videos in turn."""

    path: Annotated[str, Meta(description="a video, or a folder of videos, on the node")] = ""
    pattern: Annotated[Pattern | Literal[""], Meta(description="made before anything is measured, from *seed*")] = ""
    width: Annotated[int, Meta(ge=16, le=7680)] = 1920
    height: Annotated[int, Meta(ge=16, le=4320)] = 1080
    fps: Annotated[int, Meta(ge=1, le=120)] = 30
    duration_s: Annotated[float, Meta(gt=0, le=3600)] = 5.0
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 1


class Rendition(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One rung of the ladder. *codec*: a family, whose fastest encoder here is taken, or an encoder's own name.

    Exactly one of *crf* and *kbps*; the other is 0 (crf -1). *preset*: the encoder's own word for it.
    """

    height: Annotated[int, Meta(ge=16, le=4320, description="pixels; rungs above the input's height are left out")]
    codec: Annotated[str, Meta(pattern=_NAME)] = "h264"
    preset: str = ""  # empty: the default of `codec.DEFAULTS`
    crf: Annotated[float, Meta(ge=-1, le=63)] = -1.0
    kbps: Annotated[int, Meta(ge=0, le=200_000)] = 0
    options: dict[str, str] = {}  # of the encoder, as FFmpeg names them


LADDER: Final = tuple(Rendition(height=height, crf=23.0) for height in (1080, 720, 480, 360))


class Closed(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Closed loop: *jobs* at a time, one level after another; each level until *count* jobs have ended.

    With *duration_s* instead: as long as jobs begin.
    """

    jobs: tuple[Annotated[int, Meta(ge=1, le=256)], ...] = (1,)
    count: Annotated[int, Meta(ge=0, le=JOBS_MAX, description="jobs a level; 0: twice as many as at a time")] = 0
    duration_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


class Open(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Open loop: videos come at a rate that does not ask whether the node keeps up; those that wait stand in a queue.

    *rates*: videos/s on average, one level after another, each for *duration_s*. *shape*: how the rate moves within a
    level: ramp from 0 to twice the average; day from a trough to *peak* times the average and back; burst: a tenth of
    the time at *peak* times the average. *random*: exponential gaps from *seed*, otherwise even ones. *workers*: jobs
    at a time.
    """

    rates: tuple[Annotated[float, Meta(gt=0, le=1000)], ...]
    duration_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    shape: Shape = "constant"
    peak: Annotated[float, Meta(ge=1, le=10)] = 2.5
    random: bool = True
    seed: Annotated[int, Meta(ge=0)] = 1
    workers: Annotated[int, Meta(ge=1, le=256)] = 2
    p95_max_s: Annotated[float, Meta(ge=0, description="turnaround that must hold for the knee; 0: no knee")] = 0.0


class EncodeSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Seconds, unless a name says otherwise. One of *closed* and *open*; neither: one job alone."""

    inputs: tuple[Input, ...] = (Input(),)
    renditions: tuple[Rendition, ...] = LADDER
    gop_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    segment_s: Annotated[float, Meta(gt=0, le=60)] = 4.0
    audio: Literal["aac", "opus", "none"] = "aac"
    audio_kbps: Annotated[int, Meta(ge=8, le=1024)] = 128
    closed: Closed | None = None
    open: Open | None = None
    warm_up: Annotated[int, Meta(ge=0, le=1000, description="jobs before the first level, which do not count")] = 1
    threads: Annotated[int, Meta(ge=0, le=256, description="of each encoder and decoder; 0: as the library likes")] = 0
    affinity: tuple[Annotated[int, Meta(ge=0)], ...] = ()  # processors; empty: any
    nice: Annotated[int, Meta(ge=0, le=19)] = 0
    memory_mb: Annotated[int, Meta(ge=0, description="of each worker; beyond it the worker ends; 0: no limit")] = 0
    cpu_limit: Annotated[float, Meta(ge=0, description="processors of all workers together, by cgroup; 0: all")] = 0.0
    attempts: Annotated[int, Meta(ge=1, le=10, description="of a job whose worker died or stood still")] = 2
    job_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    stall_s: Annotated[float, Meta(gt=0, le=3600, description="without a frame, until a worker counts as stuck")] = 30.0
    timeout_s: Annotated[float, Meta(gt=0, le=172_800, description="of everything")] = 3600.0
    quality: bool = True  # of each rendition of each input, outside of the timed part
    decode_max: Annotated[int, Meta(ge=0, description="outputs that are decoded whole, afterwards")] = 200
    rtf_max: Annotated[float, Meta(ge=0, description="p95 of the realtime factor, at every level; 0: none")] = 2.0
    turnaround_max_s: Annotated[float, Meta(ge=0, description="p95 from due to done, at every level; 0: none")] = 0.0
    videos_s_min: Annotated[float, Meta(ge=0, description="videos/s of the best level; 0: no objective")] = 0.0
    keep: bool = False  # the outputs stay in the workload's folder until the agent's next encode


def parse(document: Json) -> EncodeSpec:
    """SpecError with everything that is wrong with it."""
    try:
        spec = msgspec.convert(document, EncodeSpec)
    except msgspec.ValidationError as error:
        raise SpecError(Problem(WHERE, str(error))) from error
    if problems := [Problem(WHERE, text) for text in _wrong(spec)]:
        raise SpecError(*problems)
    return spec


def _wrong(spec: EncodeSpec) -> Iterator[str]:
    if not spec.inputs:
        yield "inputs: name at least one, or leave it out for the reference clip"
    for at, one in enumerate(spec.inputs):
        if one.path and one.pattern:
            yield f"inputs[{at}]: path {one.path!r} or pattern {one.pattern!r}, not both"
        if one.path and "\0" in one.path:
            yield f"inputs[{at}]: a path cannot hold a zero byte"
    if not spec.renditions:
        yield "renditions: name at least one, or leave it out for 1080, 720, 480 and 360 lines"
    heights = [one.height for one in spec.renditions]
    if len(set(heights)) < len(heights):
        yield f"renditions: each height once, not {heights}"
    for at, each in enumerate(spec.renditions):
        if (each.crf >= 0) == (each.kbps > 0):
            yield f"renditions[{at}]: exactly one of crf and kbps"
        if each.height % 2:
            yield f"renditions[{at}]: height {each.height} is odd, which 4:2:0 pictures cannot be"
    yield from _wrong_numbers(spec)


def _wrong_numbers(spec: EncodeSpec) -> Iterator[str]:
    if spec.closed is not None and spec.open is not None:
        yield "closed or open, not both: one asks how much the node does, the other how long what comes has to wait"
    if spec.closed is not None and not spec.closed.jobs:
        yield "closed.jobs: at least one number of jobs at a time"
    if spec.closed is not None and spec.closed.duration_s:
        if spec.closed.count:
            yield "closed: count or duration_s, not both"
        if len(spec.closed.jobs) * spec.closed.duration_s >= spec.timeout_s:
            told = f"{len(spec.closed.jobs)} levels of {spec.closed.duration_s:g} s"
            yield f"closed: {told} do not fit into timeout_s {spec.timeout_s:g}"
    if spec.open is not None:
        yield from _wrong_open(spec.open, spec.timeout_s)
    gops = spec.segment_s / spec.gop_s
    if round(gops) < 1 or abs(gops - round(gops)) > 1e-6:
        yield f"segment_s {spec.segment_s:g} is no multiple of gop_s {spec.gop_s:g}: a segment begins with a key frame"
    if spec.job_timeout_s > spec.timeout_s:
        yield f"job_timeout_s {spec.job_timeout_s:g} is longer than timeout_s {spec.timeout_s:g} of everything"
    for name in ("gop_s", "segment_s", "cpu_limit", "job_timeout_s", "stall_s", "timeout_s"):
        if not math.isfinite(getattr(spec, name)):
            yield f"{name}: {getattr(spec, name)} is no number of seconds or processors"


def _wrong_open(asked: Open, timeout_s: float) -> Iterator[str]:
    if not asked.rates:
        yield "open.rates: at least one rate, videos/s"
    if not all(math.isfinite(rate) for rate in asked.rates):
        yield f"open.rates: {list(asked.rates)} holds what is no number"
        return
    if (total := sum(rate * asked.duration_s for rate in asked.rates)) > JOBS_MAX:
        yield f"open: {total:.0f} videos are more than {JOBS_MAX}"
    if len(asked.rates) * asked.duration_s >= timeout_s:
        yield f"open: {len(asked.rates)} levels of {asked.duration_s:g} s do not fit into timeout_s {timeout_s:g}"
    if asked.shape == "burst" and asked.peak >= 10:
        yield "open.peak: a burst of ten times the average in a tenth of the time leaves nothing for the rest: below 10"
