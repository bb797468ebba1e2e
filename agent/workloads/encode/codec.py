"""Which encoder a rendition gets here, and how it is told what is asked for.

Invariant: an encoder is chosen only after it was opened once on this machine: that a library has it says nothing of the
driver beneath. What was tried and refused is kept, with the refusal's words.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av
from av.error import FFmpegError

from agent.system import privilege
from agent.workloads.encode.spec import Rendition
from protos.error import Problem, SpecError

FAMILIES: Final[dict[str, tuple[str, ...]]] = {  # the fastest first
    "h264": ("h264_nvenc", "libx264"),
    "h265": ("hevc_nvenc", "libx265"),
    "av1": ("av1_nvenc", "libsvtav1"),
}
DEFAULTS: Final = {"libx264": "veryfast", "libx265": "medium", "libsvtav1": "8",
                   "h264_nvenc": "p4", "hevc_nvenc": "p4", "av1_nvenc": "p4"}  # fmt: skip
_TEN_BIT: Final = {"libx265": "yuv420p10le", "libsvtav1": "yuv420p10le", "hevc_nvenc": "p010le", "av1_nvenc": "p010le"}
_THREADS: Final = {"libx265": ("x265-params", "pools={0}:frame-threads={1}"), "libsvtav1": ("svtav1-params", "lp={0}")}
_QUIET: Final = {"libx265": ("x265-params", "log-level=error")}
_REFUSED: Final[dict[str, str]] = {}  # encoder -> why, once it was tried
_OPENED: Final[set[str]] = set()


class Chosen(NamedTuple):
    """An encoder for one rendition; *refused*: faster ones that this machine cannot open, with their words."""

    name: str
    refused: dict[str, str]


def choose(rendition: Rendition) -> Chosen:
    """By family the fastest that opens here; by an encoder's own name that one or none.

    Raises:
        SpecError: there is no such encoder, or it cannot be opened here.
    """
    names = FAMILIES.get(rendition.codec, (rendition.codec,))
    refused: dict[str, str] = {}
    for name in names:
        if not (why := why_not(name)):
            return Chosen(name, refused)
        refused[name] = why
    told = "; ".join(f"{name}: {why}" for name, why in refused.items())
    known = ", ".join([*FAMILIES, *(name for names in FAMILIES.values() for name in names)])
    raise SpecError(Problem("renditions", f"codec {rendition.codec!r} cannot be used on this node ({told})", known))


def why_not(name: str) -> str:
    """Why this encoder cannot be opened here, in the library's words; empty if it was opened."""
    if name in _OPENED:
        return ""
    if name not in _REFUSED:
        if told := _tried(name):
            _REFUSED[name] = told
        else:
            _OPENED.add(name)
            return ""
    return _REFUSED[name]


def _tried(name: str) -> str:
    try:
        codec = av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return "no such encoder in this FFmpeg"
    if codec.type != "video":
        return "it encodes no pictures"
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = 256, 256, "yuv420p"
    context.time_base = Fraction(1, 25)
    _quiet(name, context.options)
    with said() as words, privilege.without(privilege.CAP_SYS_NICE):
        try:
            context.open()
        except (FFmpegError, ValueError) as error:
            last = getattr(error, "log", None)
            return words() or (last[2].strip() if last else str(error))
    return ""


@contextlib.contextmanager
def said() -> Iterator[Any]:
    """What FFmpeg and the libraries beneath it write to stderr meanwhile: the driver's own words are only there."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    with tempfile.TemporaryFile() as told, contextlib.ExitStack() as stack:
        kept = os.dup(2)
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        stack.callback(av.logging.set_level, level)
        os.dup2(told.fileno(), 2)

        def words() -> str:
            told.seek(0)
            lines = told.read(4096).decode(errors="replace").splitlines()
            return "; ".join(filter(None, (line.rpartition("] ")[2].strip() for line in lines)))

        yield words


def options(rendition: Rendition, name: str, threads: int) -> dict[str, str]:
    """What the encoder is opened with, in FFmpeg's words. Key frames come by order alone: so rungs fall together."""
    found = {"preset": rendition.preset or DEFAULTS.get(name, "")}
    if rendition.crf >= 0:
        found |= {"rc": "vbr", "cq": f"{rendition.crf:g}"} if name.endswith("_nvenc") else {"crf": f"{rendition.crf:g}"}
    if rendition.kbps and name != "libsvtav1":  # which knows no ceiling beside a mean
        found |= {"maxrate": f"{rendition.kbps * 3 // 2}k", "bufsize": f"{rendition.kbps * 2}k"}
    if name == "libx264":
        found |= {"sc_threshold": "0", "x264-params": "scenecut=0:open-gop=0"}
    elif name == "libx265":
        found["x265-params"] = "scenecut=0:open-gop=0"
    elif name.endswith("_nvenc"):
        found |= {"no-scenecut": "1", "forced-idr": "1"}
    if threads and name in _THREADS:
        key, text = _THREADS[name]
        found[key] = ":".join(filter(None, (found.get(key), text.format(threads, max(1, min(threads, 4))))))
    _quiet(name, found)
    return {key: value for key, value in (found | rendition.options).items() if value}


def _quiet(name: str, found: dict[str, str]) -> None:
    if name in _QUIET:
        key, text = _QUIET[name]
        found[key] = ":".join(filter(None, (found.get(key), text)))


def ten_bit(name: str) -> str:
    """The pixel format in which this encoder takes ten bits; empty if it takes none that players play."""
    return _TEN_BIT.get(name, "")
