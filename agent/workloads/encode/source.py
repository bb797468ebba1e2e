"""Where the pictures come from: files of the node, the reference clip, or patterns made from a seed.

Invariant: what is encoded is always a file on this node, opened with no protocol but `file`: a name that asks for a
network, a device or another program is a name of no file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import msgspec
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from agent.workloads.encode.spec import Input
from protos.error import ProbeError

SUFFIXES: Final = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".y4m"})
_OPTIONS: Final = {"protocol_whitelist": "file"}
_HDR: Final = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}  # ITU-T H.273, transfer characteristics
_STAND_IN: Final = "a pattern in the place of the reference clip, which is not on this node"
_REFERENCE: Final = Input(pattern="testsrc2", width=1280, height=720, fps=25, duration_s=5.0, seed=7)


class JobError(ProbeError):
    """One job's input or output is wrong; the others go on."""


class Source(msgspec.Struct, frozen=True):
    """A file that is encoded. *made*: from a pattern, and removed with the rest."""

    path: str
    provenance: str
    made: bool = False


class Look(msgspec.Struct, frozen=True):
    """What a file holds: pixels, Hz, seconds."""

    width: int
    height: int
    fps: float
    duration_s: float
    audio: bool
    hdr: str
    bits: int
    aspect: Fraction = Fraction(1)  # of a pixel, width over height


def reference_clip() -> Path:
    """Where the reference farm keeps the packaged clip once it has been fetched."""
    told, base = os.environ.get("BLACKSTART_CLIP", ""), os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if base else Path.home() / ".cache"
    return Path(told) if told else cache / "blackstart" / "reference" / "bigbuckbunny.mp4"


def resolve(one: Input, folder: Path, ended: Callable[[], bool] = lambda: False) -> Iterator[Source]:
    """The files that *one* means, at least one; patterns are made in *folder*, which *ended* breaks off.

    Raises:
        JobError: there is none.
    """
    if one.pattern:
        yield _made(one, folder, ended, f"pattern {one.pattern}, seed {one.seed}")
    elif one.path:
        yield from _named(Path(one.path))
    elif (clip := reference_clip()).is_file():
        yield Source(str(clip), f"reference clip {clip.name}")
    else:
        yield _made(_REFERENCE, folder, ended, _STAND_IN)


def _named(path: Path) -> Iterator[Source]:
    if not path.is_absolute():
        raise JobError(f"{path}: name it by its whole path: the agent has a working directory of its own")
    if not path.exists():
        raise JobError(f"{path}: no such file or folder on this node")
    if not path.is_dir():
        yield Source(str(path), f"file {path.name}")
        return
    found = sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES and one.is_file())
    if not found:
        raise JobError(f"{path}: no video in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    yield from (Source(str(one), f"file {one.name} of {path}") for one in found)


def _made(one: Input, folder: Path, ended: Callable[[], bool], provenance: str) -> Source:
    name = f"{one.pattern}-{one.width}x{one.height}-{one.fps}-{one.duration_s:g}-{one.seed}.mp4"
    path = folder / name
    if not path.exists():
        part = path.with_suffix(".part")
        make(one, part, ended)
        part.rename(path)
    size = f"{one.width}x{one.height}, {one.fps}/s, {one.duration_s:g} s"
    return Source(str(path), f"{provenance}, {size}", made=True)


def graph_of(one: Input) -> str:
    """A pattern as FFmpeg's filters say it; the same pictures for the same seed."""
    size, rate = f"{one.width}x{one.height}", one.fps
    seed = one.seed
    if one.pattern == "mandelbrot":
        x = -0.743643887037158704752191506114774 + (seed % 1000) * 1e-12
        return f"mandelbrot=size={size}:rate={rate}:start_x={x!r},format=yuv420p"
    if one.pattern == "noise":
        return f"color=c=gray:size={size}:rate={rate},noise=alls=60:allf=t:all_seed={seed},format=yuv420p"
    if one.pattern == "screen":
        return _screen(one)
    return f"testsrc2=size={size}:rate={rate},noise=alls=8:allf=t:all_seed={seed},format=yuv420p"


def _screen(one: Input) -> str:
    """A still page, a column of text that scrolls, and a small moving picture: a talk over a screen."""
    width, height = one.width, one.height
    column, rows = max(16, width // 3 // 8 * 2), max(16, height // 3 // 2 * 2)
    head = f"{max(16, width // 5 // 2 * 2)}x{max(16, height // 5 // 2 * 2)}"
    return (
        f"smptehdbars=size={width}x{height}:rate={one.fps}[page];"
        f"cellauto=size={column}x{rows}:rate={one.fps}:random_seed={one.seed}:scroll=1,"
        f"scale={column * 2}:{rows * 2}:flags=neighbor[text];"
        f"mandelbrot=size={head}:rate={one.fps}:start_scale=2[head];"
        f"[page][text]overlay=x=16:y=16[with];[with][head]overlay=x=W-w-8:y=H-h-8,format=yuv420p"
    )


def make(one: Input, path: Path, ended: Callable[[], bool] = lambda: False) -> None:
    """Writes the pattern as H.264 of high quality with a tone, so that decoding it is real work, too.

    Raises:
        JobError: *ended* said so, which is asked for each picture.
    """
    graph = f"{graph_of(one)}[out0];sine=frequency=440:sample_rate=48000[out1]"
    pictures = max(1, round(one.duration_s * one.fps))
    with av.open(graph, format="lavfi") as source, av.open(str(path), "w", format="mp4") as target:
        video = target.add_stream("libx264", rate=one.fps, options={"preset": "ultrafast", "crf": "12"})
        video.width, video.height, video.pix_fmt = one.width // 2 * 2, one.height // 2 * 2, "yuv420p"
        video.codec_context.gop_size = one.fps * 2
        audio = target.add_stream("aac", rate=48_000)
        done, sound_s = 0, 0.0
        for frame in source.decode():
            if ended():
                raise JobError(f"{path.name}: was not made to its end")
            frame.pts = None
            if isinstance(frame, VideoFrame):
                if done < pictures:
                    target.mux(video.encode(frame))
                    done += 1
            elif sound_s * one.fps < pictures:
                sound_s += frame.samples / 48_000
                target.mux(audio.encode(frame))
            if done >= pictures and sound_s * one.fps >= pictures:
                break
        target.mux(video.encode(None))
        target.mux(audio.encode(None))


def opened(path: str) -> InputContainer:
    """JobError in words where it is no file, is empty, or is nothing that FFmpeg reads."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise JobError(f"{path}: is no regular file")
        if found.st_size == 0:
            raise JobError(f"{path}: is empty")
        return av.open(f"file:{path}", "r", options=_OPTIONS, container_options=_OPTIONS)
    except OSError as error:
        raise JobError(f"{path}: cannot be read as a video: {error.strerror or error}") from error
    except FFmpegError as error:
        raise JobError(f"{path}: cannot be read as a video: {error.strerror}") from error


def pictures(container: InputContainer) -> VideoStream:
    """The first stream of pictures that is no cover of music; ValueError if there is none."""
    for one in container.streams.video:
        if not one.disposition & Disposition.attached_pic:
            return one
    raise ValueError("no pictures")


def look(container: InputContainer, path: str) -> Look:
    """JobError for a file without pictures."""
    try:
        video = pictures(container)
    except ValueError as error:
        kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
        raise JobError(f"{path}: has no pictures to encode (it holds {kinds})") from error
    context = video.codec_context
    if not context.width or not context.height:
        raise JobError(f"{path}: does not say how large its pictures are")
    own = video.duration * video.time_base if video.duration and video.time_base else 0
    whole = container.duration / av.time_base if container.duration else 0.0
    bits = max((part.bits for part in context.format.components), default=8) if context.format else 8
    return Look(
        context.width, context.height, float(video.average_rate or video.guessed_rate or 0), float(own) or whole,
        bool(container.streams.audio), _HDR.get(int(context.color_trc or 0), ""), bits,
        video.sample_aspect_ratio or Fraction(1),
    )  # fmt: skip
