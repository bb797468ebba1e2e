"""Inputs for the encode workload: good ones, odd ones, and bad ones, each made as it comes about in the field."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from agent.workloads.encode import source
from agent.workloads.encode.spec import EncodeSpec, Input, parse

LADDER = [{"height": 96, "crf": 30, "preset": "ultrafast"}, {"height": 48, "crf": 30, "preset": "ultrafast"}]


def spec(**more: Any) -> EncodeSpec:
    return parse({"renditions": LADDER, "gop_s": 0.5, "segment_s": 1.0, **more})


def pattern(folder: Path, **more: Any) -> Path:
    """A good input: 192x96, 25/s, 2 s, with a tone."""
    asked = {"pattern": "testsrc2", "width": 192, "height": 96, "fps": 25, "duration_s": 2.0} | more
    (one,) = source.resolve(Input(**asked), folder)
    return Path(one.path)


def pictures(
    path: Path, sizes: list[tuple[int, int]], *, codec: str = "libx264", pix_fmt: str = "yuv420p",
    stamps: list[int] | None = None, fps: int = 25, hdr: int = 0, **options: str,
) -> Path:  # fmt: skip
    """A file of grey pictures without sound. *stamps*: in 1/1000 s; otherwise one picture each 1/*fps* s."""
    with av.open(str(path), "w") as target:
        stream: Any = target.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = pix_fmt
        if stamps is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if hdr:
            stream.codec_context.color_trc = hdr
        for at, (width, height) in enumerate(sizes):
            frame = VideoFrame(width, height, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([(at * 7) % 256]) * plane.buffer_size)
            frame = frame.reformat(format=pix_fmt)
            frame.pts = stamps[at] if stamps is not None else at
            frame.time_base = Fraction(1, 1000) if stamps is not None else Fraction(1, fps)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def tone(path: Path, seconds: float = 1.0) -> Path:
    """Sound alone."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("aac", rate=48_000)
        for at in range(int(seconds * 48_000 / 1024)):
            frame = AudioFrame("fltp", "stereo", 1024)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts = 48_000, at * 1024
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def cut(path: Path, to: Path, part: float) -> Path:
    """The first *part* of a file's bytes."""
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * part)])
    return to


def scratched(path: Path, to: Path, begin: float, end: float) -> Path:
    """A file with noise from *begin* to *end*, parts of its bytes."""
    data = bytearray(path.read_bytes())
    low, high = int(len(data) * begin), int(len(data) * end)
    data[low:high] = os.urandom(high - low)
    to.write_bytes(bytes(data))
    return to


def remuxed(path: Path, to: Path, **options: str) -> Path:
    """The same packets in another container; `movflags="faststart"`: with its index first, as files for the web."""
    with av.open(str(path)) as original, av.open(str(to), "w", container_options=options) as target:
        streams = {one.index: target.add_stream_from_template(one) for one in original.streams}
        for packet in original.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return to
