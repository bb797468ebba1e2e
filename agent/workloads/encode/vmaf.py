"""VMAF, where there is an `ffmpeg` with libvmaf: Netflix's measure of how much a rendition lost to the eye.

Pictures are compared by their number at the input's size, as for the other measures. The program is the one that
BLACKSTART_FFMPEG names, the one on PATH, or that of the package imageio-ffmpeg (`pip install 'blackstart[vmaf]'`).
Source: FFmpeg's filter libvmaf, whose built-in model is vmaf_v0.6.1.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from agent.system import libc
from protos.error import ProbeError

_LOOK_S: Final = 10.0
_COMPARE_S: Final = 600.0


@functools.cache
def program() -> str:
    """The first that has the filter; empty if none has."""
    for find in (lambda: os.environ.get("BLACKSTART_FFMPEG"), lambda: shutil.which("ffmpeg"), _packaged):
        path = find()
        if not path:
            continue
        try:
            said = subprocess.run(
                [path, "-hide_banner", "-filters"], capture_output=True, text=True, timeout=_LOOK_S, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            continue
        if " libvmaf " in said.stdout:
            return path
    return ""


def missing() -> str:
    """Why there is none; empty if there is."""
    return "" if program() else "no ffmpeg with libvmaf"


def _packaged() -> str:
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return ""
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (OSError, RuntimeError):  # a package without its program
        return ""


def measure(path: str, playlist: Path, width: int, height: int, ten_bit: bool) -> float:
    """The mean over all pictures, 0 to 100; ProbeError with ffmpeg's words."""
    form = "yuv420p10le" if ten_bit else "yuv420p"
    even = f"scale={width}:{height}:flags=bicubic,format={form},settb=1/25,setpts=N"
    threads = os.cpu_count() or 1
    parent = os.getpid()
    with tempfile.TemporaryDirectory(dir=playlist.parent) as place:
        told = Path(place) / "vmaf.json"
        graph = f"[0:V:0]{even}[d];[1:V:0]{even}[r];[d][r]libvmaf=log_fmt=json:n_threads={threads}:log_path={told.name}"
        command = [
            program(), "-hide_banner", "-v", "error", "-nostdin", "-noautorotate", "-allowed_extensions", "ALL",
            "-i", str(playlist.absolute()), "-noautorotate", "-i", str(Path(path).absolute()),
            "-lavfi", graph, "-f", "null", "-",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=place, capture_output=True, text=True, timeout=_COMPARE_S, check=False,
                preexec_fn=lambda: libc.die_with_parent(parent),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProbeError(f"VMAF of {playlist.stem}: {error}") from error
        if done.returncode or not told.exists():
            raise ProbeError(f"VMAF of {playlist.stem}: {done.stderr.strip()[-300:] or f'status {done.returncode}'}")
        return float(json.loads(told.read_text(encoding="utf-8"))["pooled_metrics"]["vmaf"]["mean"])
