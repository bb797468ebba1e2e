"""A live source made of clips: pictures at a fixed rate and the sound that belongs to them, without end.

Invariant: every picture comes with exactly the samples of its span, so that sound and picture never drift apart.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import av
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.frame import VideoFrame

SAMPLE_RATE_HZ: Final = 48_000
LAYOUT: Final = "stereo"
FORMAT: Final = "fltp"


def live(clips: tuple[str, ...], fps: int, *, first: int = 0) -> Iterator[tuple[VideoFrame, AudioFrame]]:
    """Pictures and their sound, clip after clip, for ever.

    A clip without sound is silent. A clip that breaks off in the middle is left where it breaks.

    Args:
        clips: files, each with a video stream.
        fps: pictures a second; the clip's own are repeated or left out to meet it.
        first: the clip to begin with, so that channels differ.

    Raises:
        ValueError: a clip gave no picture at all.
    """
    turn = first
    while True:
        path = clips[turn % len(clips)]
        turn += 1
        count = 0
        sound = Sound(path)
        for picture in _pictures(path, fps):
            yield picture, sound.take(SAMPLE_RATE_HZ * (count + 1) // fps - SAMPLE_RATE_HZ * count // fps)
            count += 1
        if count == 0:
            raise ValueError(f"{path}: no picture could be decoded")


def has_sound(clips: tuple[str, ...]) -> bool:
    """Whether any of *clips* has an audio stream."""
    for path in clips:
        with av.open(path) as container:
            if container.streams.audio:
                return True
    return False


class Sound:
    """The sound of one pass over a clip, in blocks of any size; silence where the clip has none (left)."""

    def __init__(self, path: str) -> None:
        self._fifo = AudioFifo()
        self._decoded = _samples(path)

    def take(self, samples: int) -> AudioFrame:
        """The next *samples* samples."""
        while self._fifo.samples < samples:
            block = next(self._decoded, None)
            self._fifo.write(_silence(samples) if block is None else block)
        frame = self._fifo.read(samples)
        assert frame is not None  # the fifo holds enough
        return frame


def _samples(path: str) -> Iterator[AudioFrame]:
    """What the clip's first audio stream holds, in the farm's format."""
    resampler = AudioResampler(format=FORMAT, layout=LAYOUT, rate=SAMPLE_RATE_HZ)
    try:
        with av.open(path) as container:
            if not container.streams.audio:
                return
            for decoded in container.decode(audio=0):
                for block in resampler.resample(decoded):
                    block.pts = None
                    yield block
    except av.FFmpegError as error:
        print(f"{path}: the sound breaks off: {error}", file=sys.stderr, flush=True)


def _silence(samples: int) -> AudioFrame:
    frame = AudioFrame(format=FORMAT, layout=LAYOUT, samples=samples)
    frame.sample_rate = SAMPLE_RATE_HZ
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return frame


def _pictures(path: str, fps: int) -> Iterator[VideoFrame]:
    """The pictures of one pass, each held until the next is due."""
    count = 0
    last: VideoFrame | None = None
    begin_s = 0.0
    try:
        with av.open(path) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for picture in container.decode(video=0):
                now_s = picture.time if picture.time is not None else begin_s + count / fps
                if last is None:
                    begin_s = now_s
                while last is not None and (count + 0.5) / fps < now_s - begin_s:
                    yield last
                    count += 1
                last = picture
    except av.FFmpegError as error:
        print(f"{path}: breaks off after {count} pictures: {error}", file=sys.stderr, flush=True)
    if last is not None:
        yield last
