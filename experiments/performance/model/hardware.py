"""GPUs by name: how many engines each has for video, from `hardware.yaml`. Every row has its source and its date."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from protos.error import Problem, RefusedError, SpecError

FILE: Final = Path(__file__).with_name("hardware.yaml")


@dataclass(frozen=True, slots=True)
class Gpu:
    """*why*: what a plan that asks it to encode is told; empty where it can."""

    name: str
    encoders: int
    decoders: int
    source: str
    date: str
    why: str = ""


def gpus(file: Path = FILE) -> dict[str, Gpu]:
    """By name. SpecError for a row that lacks its source or date, or is none."""
    rows = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("gpus") or {}
    found, problems = {}, []
    for name, row in rows.items():
        lacks = [
            key for key in ("encoders", "decoders", "source", "date") if not isinstance(row, dict) or key not in row
        ]
        if lacks:
            problems.append(
                Problem(f"{file.name}: gpus.{name}", f"lacks {', '.join(lacks)}", "no figure without source")
            )
            continue
        found[str(name)] = Gpu(
            str(name), int(row["encoders"]), int(row["decoders"]), str(row["source"]), str(row["date"]),
            str(row.get("why") or ""),
        )  # fmt: skip
    if problems:
        raise SpecError(*problems)
    return found


def encoding(name: str, file: Path = FILE) -> Gpu:
    """The GPU of that name, for a plan in which it encodes by NVENC.

    Raises:
        SpecError: there is no such GPU in the file.
        RefusedError: it has no encoder.
    """
    known = gpus(file)
    if name not in known:
        raise SpecError(Problem("--gpu", f"unknown GPU {name!r}", f"known: {', '.join(known)}; {file} takes more"))
    gpu = known[name]
    if not gpu.encoders:
        able = ", ".join(one.name for one in known.values() if one.encoders)
        raise RefusedError(f"{name} cannot encode by NVENC: {gpu.why} ({gpu.source}, {gpu.date}). Able: {able}")
    return gpu
