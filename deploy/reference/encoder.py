"""One rung of the ladder: pictures and sound in, fragments of MP4 out.

Invariant: every fragment begins with an IDR picture and holds exactly one segment's pictures. The encoders live as long
as the process, so timestamps run on from fragment to fragment.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
from av.video.frame import PictureType
from av.video.reformatter import Interpolation
from source import LAYOUT, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame

_BITS_PER_PIXEL: Final = 0.1  # a usual budget for H.264 at low resolutions
_AUDIO_BPS: Final = 64_000
_BEGIN_S: Final = 1  # time of the first picture: the encoder's priming makes the sound begin before it, never below 0
_MOVFLAGS: Final = (
    "frag_keyframe+empty_moov+default_base_moof"
    "+frag_discont"  # the first fragment keeps its times; else it begins at 0 and the later ones are off by the priming
)


class Fragments:
    """The file that the muxer writes to, cut at the boundaries of the boxes."""

    def __init__(self) -> None:
        self.init = b""
        self.done: list[bytes] = []
        self._tail = bytearray()
        self._boxes = bytearray()

    def write(self, content: bytes) -> int:
        """Called by the muxer with any number of bytes."""
        self._tail += content
        while len(self._tail) >= 8 and len(self._tail) >= (size := int.from_bytes(self._tail[:4], "big")):
            kind = bytes(self._tail[4:8])
            self._boxes += self._tail[:size]
            del self._tail[:size]
            if kind == b"moov":
                self.init = self._cut()
            elif kind == b"mdat":
                self.done.append(self._cut())
        return len(content)

    def _cut(self) -> bytes:
        content = bytes(self._boxes)
        self._boxes.clear()
        return content


class Rung:
    """The encoders and the muxer of one rung."""

    def __init__(self, size: tuple[int, int], *, fps: int, segment_frames: int, preset: str, sound: bool) -> None:
        self.size = size
        width, height = size
        self.peak_bps = round(width * height * fps * _BITS_PER_PIXEL)
        self._fps = fps
        self._pictures, self._samples = _BEGIN_S * fps, _BEGIN_S * SAMPLE_RATE_HZ
        self._fragments = Fragments()
        self._container = av.open(
            self._fragments,
            "w",
            format="mp4",
            options={"movflags": _MOVFLAGS, "flush_packets": "1", "avoid_negative_ts": "disabled"},
        )
        self._video = self._container.add_stream(
            "libx264",
            rate=fps,
            options={
                "preset": preset,
                "tune": "zerolatency",
                "threads": "1",
                "g": str(segment_frames),
                "keyint_min": str(segment_frames),
                "sc_threshold": "0",
                "crf": "27",
                "maxrate": str(self.peak_bps),
                "bufsize": str(self.peak_bps),
            },
        )
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        self._video.time_base = self._video.codec_context.time_base = Fraction(1, fps)
        self._audio = (
            self._container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout=LAYOUT, options={"aac_coder": "fast"})
            if sound
            else None
        )
        if self._audio is not None:
            self._audio.bit_rate = _AUDIO_BPS
            self.peak_bps += _AUDIO_BPS

    def feed(self, picture: VideoFrame, sound: AudioFrame) -> bytes | None:
        """Encode one picture and its sound; answers the segment that this completes, if any.

        A segment is complete once the first packets of the next have been written.
        """
        scaled = picture.reformat(self.size[0], self.size[1], "yuv420p", interpolation=Interpolation.AREA)
        scaled.pts, scaled.time_base, scaled.pict_type = self._pictures, Fraction(1, self._fps), PictureType.NONE
        self._pictures += 1
        self._container.mux(self._video.encode(scaled))
        if self._audio is not None:
            sound.pts, sound.time_base = self._samples, Fraction(1, SAMPLE_RATE_HZ)
            self._samples += sound.samples
            self._container.mux(self._audio.encode(sound))
        return self._fragments.done.pop(0) if self._fragments.done else None

    @property
    def init(self) -> bytes:
        """The initialization section; empty until the first picture was encoded."""
        return self._fragments.init

    def codecs(self) -> str:
        """The codecs as RFC 6381 writes them; the H.264 profile and level are read from the avcC box."""
        at = self.init.index(b"avcC") + 5
        video = f"avc1.{self.init[at : at + 3].hex()}"
        return video if self._audio is None else f"{video},mp4a.40.2"
