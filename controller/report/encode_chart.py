"""What an encode workload measured, as plots. Pure.

Invariant: only what was measured is drawn; instants are those of the controller's clock, as in the run's timeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from controller.report.panel import Line, Panel, panel

if TYPE_CHECKING:
    from controller.report.document import RunDocument
    from controller.report.workload import WorkloadEntry

Json = dict[str, Any]
_NS: Final = 1e9


def encode_panels(document: RunDocument) -> tuple[Panel, ...]:
    """Of every encode workload of the run, in its order."""
    entries = [entry for entry in document.workloads if entry.kind == "encode"]
    return tuple(one for entry in entries for one in _drawn(document, entry))


def _drawn(document: RunDocument, entry: WorkloadEntry) -> list[Panel]:
    """What an agent tells is not ours: of another version, or broken, it costs its own plots and no report."""
    found: list[Panel] = []
    try:
        found.extend(one for one in _panels(document, entry) if one is not None)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return found
    return found


def _panels(document: RunDocument, entry: WorkloadEntry) -> Iterator[Panel | None]:
    where = f"On {entry.agent_id}"
    if len(entry.detail["levels"]) > 1:  # of one load there is no curve
        yield from _loads(entry, where)
    yield _quality(entry, where)
    yield from _times(document, entry, where)


def _loads(entry: WorkloadEntry, where: str) -> Iterator[Panel | None]:
    levels = entry.detail["levels"]
    opened = any(level["offered_videos_s"] for level in levels)
    loads = [float(level["offered_videos_s"] or level["jobs"]) for level in levels]
    name = "videos that come, per second" if opened else "jobs at a time"
    knee = entry.detail.get("knee") or {}
    marks = [(float(knee["rate"]), "knee")] if knee.get("rate") else []
    limit_s = knee.get("p95_max_s")
    points = [(load, level["videos_s"]) for load, level in zip(loads, levels, strict=True)]
    yield panel(
        f"{where}: throughput", "Videos a second at each load.", name, "videos/s", [Line("videos/s", points)],
        marks=marks, x_at=loads,
    )  # fmt: skip
    turned = [Line(word, _of(loads, levels, "turnaround_s", key)) for key, word in (("p50", "median"), ("p95", "p95"))]
    yield panel(
        f"{where}: turnaround", "From the instant a video was due to its end." if opened else "From begin to end.",
        name, "s", turned,
        marks=marks, limits=[(limit_s, f"p95 of {limit_s:g} s")] if limit_s else (), x_at=loads,
    )  # fmt: skip
    yield panel(
        f"{where}: realtime factor by rendition", "The job's own time for each, over playing time; below 1 is faster "
        "than playback. Its median.", name, "ratio", _rungs(loads, levels), x_at=loads,
    )  # fmt: skip


def _of(loads: Sequence[float], levels: Sequence[Json], measure: str, key: str) -> list[tuple[float, float]]:
    return [(load, level[measure][key]) for load, level in zip(loads, levels, strict=True) if level[measure]["n"]]


def _rungs(loads: Sequence[float], levels: Sequence[Json]) -> list[Line]:
    names = dict.fromkeys(name for level in levels for name in level["rung_rtf"])
    return [
        Line(name, [(load, level["rung_rtf"][name]["p50"]) for load, level in zip(loads, levels, strict=True)
                    if name in level["rung_rtf"]])
        for name in names
    ]  # fmt: skip


def _quality(entry: WorkloadEntry, where: str) -> Panel | None:
    rows = entry.detail["quality"]
    lines = []
    for source in dict.fromkeys(row["input"] for row in rows):
        mine = sorted((row for row in rows if row["input"] == source), key=lambda row: row["kbps"])
        points = [(row["kbps"] / 1000, row["xpsnr_db"]) for row in mine]
        lines.append(Line(source[:22], points, [row["rung"] for row in mine], joined=False))
    least = min((y for line in lines for _, y in line.points), default=0.0)
    words = "XPSNR against the input at its size, luma; each point is a rendition."
    return panel(f"{where}: rate and quality", words, "Mbit/s", "dB", lines, y_from=5 * (least // 5))


def _times(document: RunDocument, entry: WorkloadEntry, where: str) -> Iterator[Panel | None]:
    """Over time, with what was in force in bands."""
    rows = entry.detail["timeline"]
    if not rows["at_ns"]:
        return
    begin_ns = rows["at_ns"][0]
    at = [(now - begin_ns) / _NS for now in rows["at_ns"]]
    origin_ns, end_s = begin_ns + entry.wall_offset_ns, at[-1]
    bands = []
    for injection in document.injections:
        for effect in injection.effects:
            if effect.agent_id == entry.agent_id and effect.injected_wall_ns:
                low = (effect.injected_wall_ns - origin_ns) / _NS
                lasts = effect.undo != "self_healing"  # a kill is over at once, what is not reverted goes on
                high = (
                    (effect.reverted_wall_ns - origin_ns) / _NS if effect.reverted_wall_ns else end_s if lasts else low
                )
                if low <= end_s and high >= 0:
                    bands.append((max(0.0, low), min(high, end_s), injection.name))
    yield panel(
        f"{where}: pictures over time", "Decoded and encoded to every rendition, per second.", "s", "pictures/s",
        [Line("pictures/s", list(zip(at, rows["pictures_s"], strict=True)), dots=False)], bands=bands,
    )  # fmt: skip
    names = {"cpu_busy": "processors", "gpu_encoder": "GPU encoders", "gpu_sm": "GPU"}
    shares = [
        Line(word, [(x, 100 * y) for x, y in zip(at, rows[key], strict=True) if y is not None], dots=False)
        for key, word in names.items()
        if key in rows
    ]
    missing = f" GPU: not available: {text}." if (text := entry.detail.get("no_gpu")) else ""
    yield panel(
        f"{where}: utilisation over time", f"Of all processors, and of GPUs where there are any.{missing}", "s", "%",
        shares, bands=bands,
    )  # fmt: skip
