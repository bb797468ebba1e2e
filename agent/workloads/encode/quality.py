"""How much a rendition lost: PSNR, SSIM and XPSNR of its pictures against the input's, outside of what is timed.

Both are compared as the input's size, where a viewer's screen shows them: a rendition is scaled up as a player does
(bicubic). Luma only. Source: FFmpeg's filters psnr, ssim and xpsnr; XPSNR: Helmrich et al., ITU Journal, 2020.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import msgspec
from av.error import FFmpegError
from av.filter.context import FilterContext
from av.filter.graph import Graph
from av.video.frame import VideoFrame

from agent.workloads.encode import source, vmaf
from agent.workloads.encode.check import OPEN
from agent.workloads.encode.output import TIME_BASE, Rung
from protos.error import ProbeError

_STATS: Final = {
    "psnr": re.compile(r"\bmse_y:([0-9.]+)"),
    "ssim": re.compile(r"\bY:([0-9.]+)"),
    "xpsnr": re.compile(r"XPSNR y: +([0-9.]+|inf)"),
}
_PEAK: Final = {8: 255.0, 10: 1023.0}
_BEST_DB: Final = 100.0  # for pictures without any difference


class Quality(msgspec.Struct, frozen=True):
    """dB, and SSIM from 0 to 1; over *pictures*. PSNR of the mean squared error, the others' mean over pictures."""

    rung: str
    pictures: int
    psnr_db: float
    ssim: float
    xpsnr_db: float
    kbps: float
    vmaf: float | None = None  # 0 to 100; None: no ffmpeg with libvmaf, or it failed
    vmaf_failed: str = ""  # in its words


def measure(path: str, folder: Path, rung: Rung, kbps: float) -> Quality:
    """ProbeError if they cannot be compared picture by picture."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        try:
            count, bits, size = _compared(path, folder / f"{rung.name}.m3u8", Path(place))
        except FFmpegError as error:
            raise ProbeError(f"{rung.name} of {path} cannot be compared: {error}") from error
        rows = {name: _values(Path(place) / name, pattern) for name, pattern in _STATS.items()}
    if not count or any(len(values) != count for values in rows.values()):
        counts = {name: len(values) for name, values in rows.items()}
        raise ProbeError(f"{rung.name} of {path}: {count} pictures gave {counts} values")
    mse = sum(rows["psnr"]) / count
    psnr = min(_BEST_DB, 10 * math.log10(_PEAK[bits] ** 2 / mse)) if mse else _BEST_DB
    xpsnr = sum(min(_BEST_DB, value) for value in rows["xpsnr"]) / count
    seen, why = None, ""
    if vmaf.program():
        try:
            seen = vmaf.measure(path, folder / f"{rung.name}.m3u8", *size, bits > 8)
        except ProbeError as error:  # the other measures stand
            why = str(error)
    return Quality(rung.name, count, psnr, sum(rows["ssim"]) / count, xpsnr, kbps, seen, why)


def _values(path: Path, pattern: re.Pattern[str]) -> list[float]:
    found = (pattern.search(line) for line in path.read_text(encoding="ascii").splitlines())
    return [float(one[1]) for one in found if one]


def _compared(path: str, playlist: Path, place: Path) -> tuple[int, int, tuple[int, int]]:
    """Writes each filter's values into a file of its name in *place*; the pictures, bits a sample, and their size."""
    with source.opened(path) as original, av.open(str(playlist), options=OPEN) as rendition:
        graph: Graph | None = None
        count, bits, size = 0, 8, (0, 0)
        pairs = zip(_pictures(original), _pictures(rendition), strict=False)
        for number, (ours, theirs) in enumerate(pairs):
            if graph is None:
                bits = 10 if theirs.format.components[0].bits > 8 else 8
                graph, sinks = _graph(ours, theirs, place, bits)
                size = (ours.width, ours.height)
            for at, frame in enumerate((theirs, ours)):
                frame.pts, frame.time_base = number * 3600, TIME_BASE
                graph.push(frame, at)
            for sink in sinks:
                sink.pull()
            count += 1
    return count, bits, size  # the graph ends here, and with it the files are whole


def _pictures(container: av.container.InputContainer) -> Iterator[VideoFrame]:
    stream = source.pictures(container)
    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except FFmpegError:
            continue  # as the encode itself passed it over


def _graph(ours: VideoFrame, theirs: VideoFrame, place: Path, bits: int) -> tuple[Graph, list[FilterContext]]:
    graph, width, height = Graph(), ours.width, ours.height
    form = "yuv420p10le" if bits > 8 else "yuv420p"
    ends = []
    for frame in (theirs, ours):
        entry = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=TIME_BASE)
        scale, same = graph.add("scale", f"{width}:{height}:flags=bicubic"), graph.add("format", form)
        split = graph.add("split", str(len(_STATS)))
        graph.link_nodes(entry, scale, same, split)
        ends.append(split)
    sinks = []
    for at, name in enumerate(_STATS):
        one, sink = graph.add(name, stats_file=str(place / name)), graph.add("buffersink")
        for pad, split in enumerate(ends):
            split.link_to(one, at, pad)
        one.link_to(sink)
        sinks.append(sink)
    graph.configure()
    return graph, sinks
