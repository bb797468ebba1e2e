"""What all programs of one farm agree on, written once by `farm.py up` and read by each at every start.

Invariant: a worker that comes back after a crash runs with the settings of the one that died.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lifeline import write_atomically

FRESH_SEGMENTS: Final = 3  # a channel is fresh while its newest segment is younger than this many segment durations


class InputError(Exception):
    """The caller must act: an argument, a file or a port cannot be used. Nothing was started."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One farm, or the part of one that a host runs."""

    directory: str  # absolute
    host: str
    port_base: int  # the origin's; worker i listens on port_base + i
    workers: int
    roles: tuple[str, ...]
    ladder: tuple[tuple[int, int], ...]  # (width, height) of each rung, tallest first, all even
    fps: int
    segment_s: float  # a whole number of frames
    preset: str
    clips: tuple[str, ...]  # played one after another, for ever
    provenance: str  # where the clips come from, for people

    @property
    def segment_frames(self) -> int:
        """Frames in one segment."""
        return round(self.segment_s * self.fps)

    @property
    def stale_after_s(self) -> float:
        """Age at which a channel's newest segment counts as stale."""
        return FRESH_SEGMENTS * self.segment_s

    def programs(self) -> dict[str, int]:
        """The port of each program that the roles ask for, by the program's name."""
        named = {"origin": self.port_base} if "origin" in self.roles else {}
        if "workers" in self.roles:
            named |= {f"worker-{number}": self.port_base + number for number in range(1, self.workers + 1)}
        return named

    @property
    def part(self) -> str:
        """Name of this part, so that parts on several hosts can share one directory."""
        return "farm" if len(self.roles) > 1 else self.roles[0]

    @property
    def www(self) -> Path:
        return Path(self.directory) / "www"

    @property
    def run(self) -> Path:
        return Path(self.directory) / "run"

    @property
    def log(self) -> Path:
        return Path(self.directory) / "log"

    def save(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> Settings:
        document = json.loads(path.read_text())
        document["ladder"] = tuple((width, height) for width, height in document["ladder"])
        return cls(**document | {"clips": tuple(document["clips"]), "roles": tuple(document["roles"])})


def rung_name(height: int) -> str:
    """Name of a rung's folder."""
    return f"{height}p"
