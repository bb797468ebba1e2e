"""A measured encode beside a reference run of the same inputs: speed, bitrate and quality as ratios. Pure.

Source: Lottarini et al., *vbench: Benchmarking Video Transcoding in the Cloud*, ASPLOS 2018: each is above 1 where the
new one is better. Speed is of the job's own time for a rendition, quality of PSNR, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protos.error import Problem, SpecError

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """Of one rendition of one input: each ratio over the reference's."""

    rung: str
    input: str
    speed: float
    bitrate: float
    quality: float


def scores(new: Json, reference: Json) -> list[Score]:
    """Of what both runs have: renditions by name, inputs by their provenance. SpecError where that is nothing."""
    for what, of in (("load", _load), ("inputs", lambda one: sorted(one["sources"]))):
        if of(new) != of(reference):
            told = f"has other {what} than this run ({of(reference)}, not {of(new)}): speeds cannot be compared"
            raise SpecError(Problem("reference", told, "encode the same inputs, the same number at a time"))
    mine, theirs = _rows(new), _rows(reference)
    speeds, base = _speeds(new), _speeds(reference)
    found = [
        Score(rung, source, base[rung] / speeds[rung], theirs[source, rung]["kbps"] / row["kbps"],
              row["psnr_db"] / theirs[source, rung]["psnr_db"])
        for (source, rung), row in mine.items()
        if (source, rung) in theirs and rung in speeds and rung in base
    ]  # fmt: skip
    if not found:
        remedy = "encode the same inputs, with quality: true, to renditions of the same height"
        raise SpecError(Problem("reference", "has no rendition of an input in common with this run", remedy))
    return found


def _least(result: Json) -> Json:
    """The level with the least load at which something was encoded."""
    able = [level for level in result["levels"] if level.get("rung_rtf")]
    if not able:
        raise SpecError(Problem("run", "tells no time by rendition", "encode again, with this version's agent"))
    return min(able, key=lambda level: (level["offered_videos_s"], level["jobs"]))


def _load(result: Json) -> str:
    level = _least(result)
    return f"{level['offered_videos_s']:g} videos/s" if level["offered_videos_s"] else f"{level['jobs']} at a time"


def _rows(result: Json) -> dict[tuple[str, str], Json]:
    return {(row["input"], row["rung"]): row for row in result["quality"]}


def _speeds(result: Json) -> dict[str, float]:
    """Realtime factor of each rendition at the least load."""
    least = _least(result)
    return {rung: row["mean"] for rung, row in least["rung_rtf"].items() if row["n"]}
