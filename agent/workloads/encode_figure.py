"""An encode result as figures with their provenance, and a sentence. Pure.

Invariant: a speed never comes without the quality it was had for, where that was asked for; and what was not measured
on a GPU says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from protos.figure import Figure, Measured

Json = dict[str, Any]
_CLOCK: Final = "monotonic clock around each job"
_GPU: Final = {
    "sm": ("utilisation", "fraction"), "encoder": ("encoder utilisation", "fraction"),
    "decoder": ("decoder utilisation", "fraction"), "memory_mb": ("memory", "MB"), "power_w": ("power", "W"),
    "clock_mhz": ("SM clock", "MHz"), "video_clock_mhz": ("video clock", "MHz"),
}  # fmt: skip
_USED: Final = "getrusage of the workers, all threads"


def figures(result: Json) -> list[Figure]:
    """Of each level, then of the pictures."""
    found = [one for level in result["levels"] for one in [*_level(level, _how(result)), *_meters(level)]]
    return [*found, *_qualities(result)]


def not_available(result: Json) -> list[str]:
    """What this node could not measure, and why: a sentence each."""
    found = [f"GPU figures: not available: {result['no_gpu']}"] if result["no_gpu"] else []
    found += [f"energy: not available: {result['no_meter']}"] if result["no_meter"] else []
    return [*found, *([f"VMAF: not available: {result['no_vmaf']}"] if result["no_vmaf"] else [])]


def objectives(result: Json) -> list[Json]:
    """`{name, at_most or at_least, lo, hi, unit, result}`: each was measured, so each is met or missed."""
    spec, levels, found = result["spec"], result["levels"], list[Json]()
    for level in levels if spec["rtf_max"] else ():
        if level["rtf"]["n"]:
            p95 = level["rtf"]["p95"]
            found.append(_held(f"realtime factor p95, {_load(level)}", p95, "ratio", at_most=spec["rtf_max"]))
    for level in levels if spec["turnaround_max_s"] else ():
        if level["turnaround_s"]["n"]:
            p95, most = level["turnaround_s"]["p95"], spec["turnaround_max_s"]
            found.append(_held(f"turnaround p95, {_load(level)}", p95, "s", at_most=most))
    if spec["videos_s_min"]:
        best = max(level["videos_s"] for level in levels)
        found.append(_held("videos of the best level", best, "videos/s", at_least=spec["videos_s_min"]))
    bad = sum(level["failed"] + level["lost"] + level["duplicated"] for level in levels)
    bad += len(result["decoded"]["wrong"]) + len(result["decoded"]["failed"])
    return [*found, _held("videos failed, lost, doubled or wrong", bad, "videos", at_most=0)]


def _held(name: str, value: float, unit: str, at_most: float | None = None, at_least: float | None = None) -> Json:
    met = value <= at_most if at_most is not None else value >= (at_least or 0.0)
    return {"name": name, "at_most": at_most, "at_least": at_least, "lo": value, "hi": value, "unit": unit,
            "result": "met" if met else "missed"}  # fmt: skip


def _load(level: Json) -> str:
    return f"{level['offered_videos_s']:g} videos/s" if level["offered_videos_s"] else f"{level['jobs']} at a time"


def summary(result: Json) -> str:
    """One sentence for a human."""
    best = max(result["levels"], key=lambda level: level["videos_s"])
    count = sum(level["count"] for level in result["levels"])
    done = sum(level["done"] for level in result["levels"])
    bad = result["decoded"]["wrong"]
    load = f"{best['offered_videos_s']:g} videos/s offered" if best["offered_videos_s"] else f"{best['jobs']} at a time"
    rtf = f", realtime factor {best['rtf']['p50']:.2f}" if best["rtf"]["n"] else ""
    said = f"{done} of {count} videos encoded; best {best['videos_s']:.3g} videos/s ({load}{rtf})"
    knee = result.get("knee")
    if knee and knee["rate"] is not None:
        said += f"; p95 turnaround holds {knee['p95_max_s']:g} s up to {knee['rate']:g} videos/s"
    said += f"; {len(bad)} outputs are wrong" if bad else ""
    failed = result["decoded"]["failed"]
    said += f"; {len(failed)} looks at outputs failed ({failed[0]})" if failed else ""
    slower = sorted({text for level in result["levels"] for gpu in level["gpus"] for text in gpu["slower"]})
    said += f"; GPU clocks were held down ({', '.join(slower)})" if slower else ""
    said += f"; Xid {', '.join(map(str, result['xids']))}" if result["xids"] else ""
    return "; ".join([said, *not_available(result)])


def lines(result: Json) -> list[str]:
    """A line for each level, and one for each rendition's quality, for a human."""
    found = []
    for level in result["levels"]:
        said = f"{_load(level)}: {level['videos_s']:.3g} videos/s, {level['done']} of {level['count']} done"
        if level["rtf"]["n"]:
            said += f", realtime factor {level['rtf']['p50']:.2f} (p95 {level['rtf']['p95']:.2f})"
            said += (
                f", turnaround p95 {level['turnaround_s']['p95']:.3g} s, {level['rss_mb']['max']:.0f} MB a job at most"
            )
        found.append(said)
    for row in result["quality"]:
        seen = f", VMAF {row['vmaf']:.1f}" if row.get("vmaf") is not None else ""
        quality = f"PSNR {row['psnr_db']:.1f} dB, XPSNR {row['xpsnr_db']:.1f} dB{seen}"
        found.append(f"{row['rung']} of {row['input']}: {row['kbps'] / 1000:.3g} Mbit/s, {quality}")
    return found


def _how(result: Json) -> str:
    names = ", ".join(f"{rung} {one['encoder']}" for rung, one in result["encoders"].items())
    return f"{names}; {'; '.join(dict.fromkeys(result['sources']))}"


def _one(name: str, value: float, unit: str, method: str, samples: int) -> Figure:
    return Figure(name, value, unit, Measured(method, samples, value, value))


def _spread(name: str, row: Json, unit: str, method: str) -> Iterator[Figure]:
    if row["n"]:
        yield Figure(name, row["mean"], unit, Measured(f"{method}; mean, its bounds the median and the highest",
                                                       row["n"], min(row["p50"], row["mean"]), row["max"]))  # fmt: skip
        yield _one(f"{name} p95", row["p95"], unit, method, row["n"])


def _level(level: Json, how: str) -> Iterator[Figure]:
    load = _load(level)
    done, span = level["done"], "while videos came" if level["offered_videos_s"] else "while every worker had a job"
    pictures = f"pictures decoded and encoded to every rung, {span}"
    ours = "agent and its coordinator, of all processors"
    yield _one(f"{load}: videos", level["videos_s"], "videos/s", f"{span}; {how}", done)
    yield _one(f"{load}: frames", level["frames_s"], "frames/s", pictures, done)
    yield _one(f"{load}: frames per processor second", level["frames_cpu_s"], "frames/s", _USED, done)
    yield from _spread(f"{load}: realtime factor", level["rtf"], "ratio", f"encoding time over playing time, {_CLOCK}")
    for rung, row in level["rung_rtf"].items():
        method = "the job's own time for scaling, encoding and writing it, over playing time"
        yield from _spread(f"{load}: realtime factor of {rung}", row, "ratio", method)
    yield from _spread(f"{load}: speed", level["speed"], "ratio", f"playing time over encoding time, {_CLOCK}")
    yield from _spread(f"{load}: wait", level["wait_s"], "s", "from the instant a video was due to its begin")
    yield from _spread(f"{load}: turnaround", level["turnaround_s"], "s", "from the instant a video was due to its end")
    yield from _spread(f"{load}: memory of a job", level["rss_mb"], "MB", "highest resident size of its worker")
    yield _one(f"{load}: processors busy", level["cpu_busy_fraction"], "fraction", f"/proc/stat, {span}", 1)
    yield _one(f"{load}: measuring's own share", level["overhead_fraction"], "fraction", ours, 1)
    for name in ("failed", "lost", "redone", "duplicated"):
        yield _one(f"{load}: {name}", level[name], "videos", "each job's end", level["count"])


def _meters(level: Json) -> Iterator[Figure]:
    load = _load(level)
    for number, gpu in enumerate(level["gpus"]):
        how = f"NVML at {gpu['hz']:.1f} Hz on {gpu['name']} {gpu['uuid']}"
        for key, (word, unit) in _GPU.items():
            if key in gpu:
                method = f"{how}; mean, its upper bound the highest"
                value = Measured(method, gpu["samples"], gpu[key]["mean"], gpu[key]["max"])
                yield Figure(f"{load}: GPU {number} {word}", gpu[key]["mean"], unit, value)
        if "energy_j" in gpu and level["done"]:
            each = gpu["energy_j"] / level["done"]
            yield _one(
                f"{load}: GPU {number} energy of a video", each, "J", f"the GPU's own meter, {how}", level["done"]
            )
        if "errors" in gpu:
            yield _one(f"{load}: GPU {number} memory errors", gpu["errors"], "errors", f"uncorrected ECC, {how}", 1)
    if level["energy_video_j"] is not None:
        method = "energy meter of all processor packages, whoever used them"
        yield _one(f"{load}: energy of a video", level["energy_video_j"], "J", method, level["done"])


def _qualities(result: Json) -> Iterator[Figure]:
    method = "against the input at its size, luma, after the encoding"
    for row in result["quality"]:
        name, pictures = f"{row['rung']} of {row['input']}", row["pictures"]
        for key, word, unit in (("psnr_db", "PSNR", "dB"), ("ssim", "SSIM", "1"), ("xpsnr_db", "XPSNR", "dB")):
            yield _one(f"{name}: {word}", row[key], unit, method, pictures)
        if row.get("vmaf") is not None:
            yield _one(f"{name}: VMAF", row["vmaf"], "1", f"vmaf_v0.6.1 of an ffmpeg of its own, {method}", pictures)
        yield _one(f"{name}: bitrate", row["kbps"], "kbit/s", "its segments' bytes over its playing time", pictures)
