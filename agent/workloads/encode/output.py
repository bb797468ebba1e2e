"""What a job writes: one HLS rendition a rung and one for the sound, in fragmented MP4, and a playlist over them.

Invariant: a segment begins with a key frame, and the playlist is complete only once `close` has returned.
"""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import msgspec
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame

from agent.workloads.encode.spec import EncodeSpec

TIME_BASE: Final = Fraction(1, 90_000)  # of every picture from the decoder on: RFC 8216's own
AUDIO: Final = "audio"
_ENCODERS: Final = {"aac": "aac", "opus": "libopus"}
_RATE_HZ: Final = 48_000
_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})


class Rung(msgspec.Struct, frozen=True):
    """What one rendition of a job is. *name*: of its playlist, `720p`."""

    name: str
    width: int
    height: int
    encoder: str
    pix_fmt: str
    options: dict[str, str]
    kbps: int = 0


class DiskError(OSError):
    """The outputs' disk takes no more: no fault of the job's."""


def disk(error: FFmpegError, folder: Path) -> DiskError | None:
    """The error as one of the disk's, if it is one."""
    if error.errno not in _DISK:
        return None
    return DiskError(error.errno, f"{folder}: {error.strerror}")


def _opened(folder: Path, name: str, spec: EncodeSpec) -> av.container.OutputContainer:
    return av.open(
        str(folder / f"{name}.m3u8"), "w", format="hls",
        options={
            "hls_time": f"{spec.segment_s:g}", "hls_playlist_type": "vod", "hls_segment_type": "fmp4",
            "hls_fmp4_init_filename": f"{name}-init.mp4", "hls_segment_filename": str(folder / f"{name}-%05d.m4s"),
            "hls_flags": "independent_segments",
            "avoid_negative_ts": "disabled",  # the first picture is shown at 0, however the encoder reorders them
        },
    )  # fmt: skip


class Pictures:
    """One rung's encoder and files; *context*: of the decoder, for what is carried over."""

    def __init__(self, folder: Path, rung: Rung, spec: EncodeSpec, rate: Fraction, context: Any) -> None:
        self.rung = rung
        self._container = _opened(folder, rung.name, spec)
        stream: Any = self._container.add_stream(rung.encoder, rate=rate, options=dict(rung.options))
        stream.width, stream.height, stream.pix_fmt = rung.width, rung.height, rung.pix_fmt
        stream.time_base = TIME_BASE
        encoder = stream.codec_context
        encoder.time_base = TIME_BASE
        encoder.thread_count = spec.threads
        encoder.gop_size = max(1, round(float(rate) * spec.gop_s * 2))  # further than ours: they come by order
        if rung.kbps:
            encoder.bit_rate = rung.kbps * 1000
        for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
            if value := getattr(context, name):
                setattr(encoder, name, value)
        self._stream = stream

    def encode(self, frame: VideoFrame, *, key: bool) -> None:
        frame.pict_type = PictureType.I if key else PictureType.NONE
        self._container.mux(self._stream.encode(frame))

    def close(self, *, whole: bool) -> None:
        """*whole*: what the encoder still holds is written, too."""
        try:
            if whole:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


class Sound:
    """The sound, encoded once for all rungs."""

    def __init__(self, folder: Path, spec: EncodeSpec) -> None:
        self._container = _opened(folder, AUDIO, spec)
        stream: Any = self._container.add_stream(_ENCODERS[spec.audio], rate=_RATE_HZ)
        stream.bit_rate = spec.audio_kbps * 1000
        stream.layout = "stereo"
        self._stream = stream
        self._resampler = AudioResampler(stream.format, "stereo", _RATE_HZ)
        self._samples = 0
        self._first: int | None = None

    def take(self, frame: AudioFrame, at_s: float) -> None:
        """*at_s*: when it is heard, seconds from the file's start; said by the first, the others follow on."""
        if self._first is None:
            self._first = max(0, round(at_s * _RATE_HZ))
        frame.pts = None
        self._write(frame)

    def _write(self, frame: AudioFrame | None) -> None:
        for one in self._resampler.resample(frame):
            one.pts, one.time_base = (self._first or 0) + self._samples, Fraction(1, _RATE_HZ)
            self._samples += one.samples
            self._container.mux(self._stream.encode(one))

    def close(self, *, whole: bool) -> float:
        """Seconds of sound that were written."""
        try:
            if whole and self._samples:
                self._write(None)
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
        return self._samples / _RATE_HZ


def master(folder: Path, rungs: list[Rung], media_s: float, *, sound: str) -> None:
    """The playlist over all rungs (RFC 8216, 4.3.4); bandwidths as they came out."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    with_sound = ""
    if sound:
        lines.append(f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="sound",DEFAULT=YES,URI="{AUDIO}.m3u8"')
        with_sound = ',AUDIO="sound"'
    for rung in rungs:
        bits = round(size(folder, rung.name) * 8 / media_s) if media_s else 0
        lines += [f"#EXT-X-STREAM-INF:BANDWIDTH={max(1, bits)},RESOLUTION={rung.width}x{rung.height}{with_sound}",
                  f"{rung.name}.m3u8"]  # fmt: skip
    (folder / "master.m3u8").write_text("\n".join(lines) + "\n", encoding="utf-8")


def size(folder: Path, name: str) -> int:
    """Bytes of a rendition's segments."""
    return sum(one.stat().st_size for one in folder.glob(f"{name}-*.m4s"))
