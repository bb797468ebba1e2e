"""`python -m agent.workloads.encode.worker SLOT BOARD PARENT_PID`: one job after another, in a process of its own.

Its input is lines of JSON, an order each, and so is its output, an answer to each. A job's output is made beside its
place and moved there whole: what stands in a job's place is complete. Ends with its input, or with its parent.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent.system import libc
from agent.system.board import Slot
from agent.workloads.encode import check, codec, ladder, quality
from agent.workloads.encode.ladder import Made
from agent.workloads.encode.output import DiskError
from agent.workloads.encode.source import JobError
from agent.workloads.encode.spec import EncodeSpec
from protos.error import BlackstartError, SpecError

Json = dict[str, Any]
_PEAK = "5"  # to /proc/self/clear_refs: the highest resident size begins anew; proc(5)


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """*do*: job, decode or quality. *place*: the job's folder; *made*: what a job answered, for what follows it."""

    do: str
    path: str
    place: str
    attempt: int = 1
    made: Made | None = None


class Answer(msgspec.Struct, omit_defaults=True):
    """*kind* of an error: job (the input's own), output (wrong: muxers hide failed writes), disk, spec."""

    made: Made | None = None
    rss_bytes: int = 0  # the highest of this job
    wrong: list[str] = []  # with the output
    twice: bool = False  # the job's place was taken already: it had been done before, and nobody was told
    quality: list[quality.Quality] = []
    error: str = ""
    kind: str = ""


class OutputError(JobError):
    """What was written is not what was encoded."""


def carried_out(order: Order, spec: EncodeSpec, slot: Slot) -> Answer:
    """Never raises for what is the job's or the disk's fault."""
    place = Path(order.place)
    try:
        if order.do == "job":
            return _job(order, spec, slot, place)
        assert order.made is not None
        if order.do == "decode":
            return Answer(wrong=check.decoded(place, order.made.rungs, order.made.frames))
        return Answer(quality=_quality(order, order.made, place))
    except (DiskError, BlackstartError) as error:
        kinds = {DiskError: "disk", SpecError: "spec", OutputError: "output"}
        return Answer(error=str(error), kind=kinds.get(type(error), "job"))
    except OSError as error:
        return Answer(error=f"{order.path}: {error}", kind="disk")


def _job(order: Order, spec: EncodeSpec, slot: Slot, place: Path) -> Answer:
    beside = place.with_name(f"{place.name}.{order.attempt}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    _forget_peak()
    try:
        made = ladder.Job(order.path, beside, spec, lambda _: slot.tick(1)).run()
        if wrong := check.wrong(beside, made, spec.gop_s):
            raise OutputError(f"{order.path}: its output is wrong: {'; '.join(wrong[:3])}")
        twice = place.exists()
        if twice:
            shutil.rmtree(place)
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Answer(made=made, rss_bytes=_peak_bytes(), twice=twice)


def _quality(order: Order, made: Made, place: Path) -> list[quality.Quality]:
    return [
        quality.measure(order.path, place, rung, made.bytes[rung.name] * 8 / made.media_s / 1000) for rung in made.rungs
    ]


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text(_PEAK, encoding="ascii")
    except OSError:
        pass  # then the highest since this worker began is told


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _confine(spec: EncodeSpec) -> None:
    if spec.affinity:
        try:
            os.sched_setaffinity(0, spec.affinity)
        except OSError as error:
            raise SystemExit(f"affinity {list(spec.affinity)}: {error.strerror}") from error
    os.nice(spec.nice)
    if spec.memory_mb:
        resource.setrlimit(resource.RLIMIT_DATA, (spec.memory_mb * 1_000_000, spec.memory_mb * 1_000_000))


def main(argv: list[str]) -> int:
    number, board, parent = int(argv[0]), Path(argv[1]), int(argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent
    libc.die_with_parent(parent)
    os.environ.setdefault("SVT_LOG", "1")  # errors
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is no answer
    orders = sys.stdin.buffer
    spec = msgspec.json.decode(orders.readline(), type=EncodeSpec)
    _confine(spec)
    slot, encoder = Slot(board, number), msgspec.json.Encoder()
    for rendition in spec.renditions:
        codec.choose(rendition)  # opened once before it counts
    answers.write(b"{}\n")
    for line in orders:
        slot.tick()
        answers.write(encoder.encode(carried_out(msgspec.json.decode(line, type=Order), spec, slot)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
