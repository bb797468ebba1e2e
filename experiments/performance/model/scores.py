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


def _rows(result: Json) -> dict[tuple[str, str], Json]:
    return {(row["input"], row["rung"]): row for row in result["quality"]}


def _speeds(result: Json) -> dict[str, float]:
    """Realtime factor of each rendition at the least load."""
    least = min(result["levels"], key=lambda level: (level["offered_videos_s"], level["jobs"]))
    return {rung: row["mean"] for rung, row in least["rung_rtf"].items() if row["n"]}
