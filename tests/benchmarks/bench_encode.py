"""What encoding by the workload costs beside bare `ffmpeg`: processor time for the same renditions of the same file.

Rivals, interleaved pair by pair: one `ffmpeg` with `split` (bound: 0.98 of its pictures per processor second), and one
`ffmpeg` a rendition, each of which decodes for itself (goal: 1.15 times theirs). Run by `make bench`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")
from agent.workloads.encode import source
from agent.workloads.encode.spec import EncodeSpec, Input, parse

FFMPEG = os.environ.get("BLACKSTART_FFMPEG") or shutil.which("ffmpeg") or ""
INPUTS = [Input(), Input(pattern="testsrc2", duration_s=4.0), Input(pattern="screen", duration_s=4.0)]
PAIRS = int(os.environ.get("BLACKSTART_BENCH_PAIRS", "7"))
OURS = """
import json, sys
from pathlib import Path
from agent.workloads.encode.ladder import Job
from agent.workloads.encode.spec import parse
made = Job(sys.argv[1], Path(sys.argv[2]), parse(json.loads(sys.argv[3])), lambda _: None).run()
print(made.frames)
"""


def spent(command: list[str]) -> tuple[float, float]:
    """(processor seconds, wall seconds) of a process and its children, from fork to exit; it must succeed."""
    begun, before = time.monotonic(), os.times()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    after = os.times()
    assert done.returncode == 0, done.stderr[-2000:]
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, time.monotonic() - begun


def ours(path: str, folder: Path, spec: dict) -> list[list[str]]:
    return [[sys.executable, "-c", OURS, path, str(folder), json.dumps(spec)]]


def _rendition(asked: EncodeSpec, height: int, folder: Path, video: str, keys: str) -> list[str]:
    """The output options of one rendition, as the workload's own encoder has them."""
    one = next(each for each in asked.renditions if each.height == height)
    return [
        "-map", video, "-c:v", "libx264", "-preset", one.preset or "veryfast", "-crf", f"{one.crf:g}",
        "-sc_threshold", "0", "-x264-params", "scenecut=0:open-gop=0", "-force_key_frames", keys, "-pix_fmt", "yuv420p",
        "-f", "hls", "-hls_time", f"{asked.segment_s:g}", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4",
        "-hls_fmp4_init_filename", f"{height}-init.mp4", str(folder / f"{height}.m3u8"),
    ]  # fmt: skip


def _sound(folder: Path) -> list[str]:
    return [
        "-map", "0:a", "-c:a", "aac", "-b:a", "128k", "-ac", "2", "-ar", "48000", "-f", "hls",
        "-hls_segment_type", "fmp4", "-hls_playlist_type", "vod", "-hls_fmp4_init_filename", "a-init.mp4",
        str(folder / "a.m3u8"),
    ]  # fmt: skip


def split(path: str, folder: Path, asked: EncodeSpec, heights: list[int]) -> list[list[str]]:
    """One process: decoded once, split, scaled, encoded."""
    keys = f"expr:gte(t,n_forced*{asked.gop_s:g})"
    pads = "".join(f"[i{height}]" for height in heights)
    chains = ";".join(f"[i{height}]scale=-2:{height}:flags=bicubic[o{height}]" for height in heights)
    command = [FFMPEG, "-v", "error", "-y", "-i", path, "-filter_complex", f"[0:v]split={len(heights)}{pads};{chains}"]
    for height in heights:
        command += _rendition(asked, height, folder, f"[o{height}]", keys)
    return [command + _sound(folder)]


def each(path: str, folder: Path, asked: EncodeSpec, heights: list[int]) -> list[list[str]]:
    """A process a rendition, each with the decoding to itself; the sound with the first."""
    keys = f"expr:gte(t,n_forced*{asked.gop_s:g})"
    found = []
    for at, height in enumerate(heights):
        scale = ["-vf", f"scale=-2:{height}:flags=bicubic"]
        command = [FFMPEG, "-v", "error", "-y", "-i", path, *scale, *_rendition(asked, height, folder, "0:v", keys)]
        found.append(command + (_sound(folder) if at == 0 else []))
    return found


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("asked", INPUTS)
def test_pictures_a_processor_second_beside_ffmpeg(tmp_path: Path, asked: Input) -> None:
    if not FFMPEG:
        pytest.skip("install ffmpeg, or name one in BLACKSTART_FFMPEG")
    (one,) = source.resolve(asked, tmp_path)
    path = one.path
    if not one.made:  # a short clip: three times over, since a worker of the workload starts once for all its jobs
        path = str(tmp_path / f"looped{Path(one.path).suffix}")
        command = [FFMPEG, "-v", "error", "-stream_loop", "2", "-i", one.path, "-c", "copy", path]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    document = {"inputs": [{"path": path}]}
    spec = parse(document)
    with source.opened(path) as container:
        own = source.look(container, path).height
    heights = [rung.height for rung in spec.renditions if rung.height <= own]
    rivals = {
        "the workload": lambda folder: ours(path, folder, document),
        "ffmpeg, split": lambda folder: split(path, folder, spec, heights),
        "ffmpeg, each": lambda folder: each(path, folder, spec, heights),
    }
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
    for pair in range(PAIRS + 1):
        for name in list(rivals) if pair % 2 else list(reversed(rivals)):
            folder = tmp_path / "out"
            folder.mkdir()
            parts = [spent(command) for command in rivals[name](folder)]
            shutil.rmtree(folder)
            if pair:  # the first warms the page cache
                used[name].append((sum(cpu for cpu, _ in parts), sum(wall for _, wall in parts)))
    version = subprocess.run([FFMPEG, "-version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    print(f"\n{one.provenance}; {len(heights)} renditions; {PAIRS} pairs; rival: {version[:60]}")
    for name, rows in used.items():
        cpu = statistics.median(row[0] for row in rows)
        print(f"  {name:14} {cpu:7.3f} processor s, {statistics.median(row[1] for row in rows):7.3f} s wall")
    for name, goal in (("ffmpeg, split", 0.98), ("ffmpeg, each", 1.15)):
        ratios = [theirs[0] / mine[0] for mine, theirs in zip(used["the workload"], used[name], strict=True)]
        print(f"  pictures a processor second, of {name}: {statistics.median(ratios):.3f} "
              f"[{min(ratios):.3f}, {max(ratios):.3f}], goal {goal}")  # fmt: skip
