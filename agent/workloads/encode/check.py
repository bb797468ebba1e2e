"""Whether an output is what it should be: read again from disk, by its playlist, as a player would.

Invariant: a job counts only if each rung has every picture that was decoded, in order, in segments that begin with key
frames at the same instants in every rung.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from agent.workloads.encode.ladder import Made
from agent.workloads.encode.output import AUDIO, Rung

_SHORT_S = 0.25  # that the sound may differ from the pictures beside what its source differs: packets and priming
OPEN = {"protocol_whitelist": "file", "allowed_extensions": "ALL"}


def wrong(folder: Path, made: Made, gop_s: float) -> list[str]:
    """Everything that is wrong with a job's output by its packets; nothing is decoded."""
    found, keys = list[str](), dict[str, list[float]]()
    for rung in made.rungs:
        try:
            found += _rung(folder, rung, made, keys)
        except (FFmpegError, OSError) as error:
            found.append(f"{rung.name}: cannot be read again: {error}")
    if len({tuple(round(at, 3) for at in one) for one in keys.values()}) > 1:
        found.append("key frames stand at different instants in different rungs")
    for name, instants in keys.items():
        gaps = [later - earlier for earlier, later in itertools.pairwise(instants)]
        if (longest := max(gaps, default=0.0)) > gop_s + made.longest_s + 0.002:
            found.append(f"{name}: {longest:.3f} s without a key frame, not {gop_s:g}")
    if made.sound_s:
        try:
            found += _sound(folder, made)
        except (FFmpegError, OSError) as error:
            found.append(f"{AUDIO}: cannot be read again: {error}")
    return found


def _rung(folder: Path, rung: Rung, made: Made, keys: dict[str, list[float]]) -> list[str]:
    found, count, last, first_s, end_s = list[str](), 0, None, None, 0.0
    keys[rung.name] = []
    with av.open(str(folder / f"{rung.name}.m3u8"), options=OPEN) as container:
        stream = container.streams.video[0]
        if (stream.width, stream.height) != (rung.width, rung.height):
            found.append(f"{rung.name}: {stream.width}x{stream.height}, not {rung.width}x{rung.height}")
        stamps = []
        for packet in container.demux(stream):
            if packet.dts is None:
                continue
            count += 1
            if last is not None and packet.dts <= last:
                found.append(f"{rung.name}: time stamps go back at packet {count}")
            last = packet.dts
            at_s = float((packet.pts if packet.pts is not None else packet.dts) * packet.time_base)
            stamps.append(at_s)
            if packet.is_keyframe:
                keys[rung.name].append(at_s)
            first_s = at_s if first_s is None else min(first_s, at_s)
            end_s = max(end_s, at_s)
    if count != made.frames:
        found.append(f"{rung.name}: {count} pictures, not the {made.frames} that were decoded")
    if len(set(stamps)) != len(stamps):
        found.append(f"{rung.name}: two pictures at one instant")
    span_s = end_s - (first_s or 0.0) + made.step_s
    if abs(span_s - made.media_s) > 0.002 + made.step_s * 0.01:
        found.append(f"{rung.name}: lasts {span_s:.3f} s, not {made.media_s:.3f}")
    if not keys[rung.name] or keys[rung.name][0] != first_s:
        found.append(f"{rung.name}: does not begin with a key frame")
    return found[:5]


def _sound(folder: Path, made: Made) -> list[str]:
    last, end_s, first_s = None, 0.0, None
    with av.open(str(folder / f"{AUDIO}.m3u8"), options=OPEN) as container:
        for packet in container.demux(container.streams.audio[0]):
            if packet.dts is None:
                continue
            if last is not None and packet.dts <= last:
                return [f"{AUDIO}: time stamps go back"]
            last = packet.dts
            at_s = float(packet.dts * packet.time_base)
            first_s = at_s if first_s is None else first_s
            end_s = at_s + float((packet.duration or 0) * packet.time_base)
    span_s = end_s - (first_s or 0.0)
    return [] if abs(span_s - made.sound_s) <= _SHORT_S else [f"{AUDIO}: lasts {span_s:.3f} s, not {made.sound_s:.3f}"]


def decoded(folder: Path, rungs: list[Rung], frames: int) -> list[str]:
    """What is wrong once every picture is decoded: outside of what is timed."""
    found = []
    for rung in rungs:
        try:
            count = _count(folder / f"{rung.name}.m3u8")
        except (FFmpegError, OSError) as error:
            found.append(f"{rung.name}: does not decode: {error}")
            continue
        if count != frames:
            found.append(f"{rung.name}: {count} pictures decode, not {frames}")
    return found


def _count(path: Path) -> int:
    with av.open(str(path), options=OPEN) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type = "AUTO"
        return sum(1 for _ in container.decode(stream))
