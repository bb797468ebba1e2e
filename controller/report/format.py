"""How figures are written for people: durations, bounds, latencies, clocks, counts. The only place that rounds.

Invariant: printed bounds hold what the exact bounds hold: the lower one is rounded down, the upper one up.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from controller.report.document import Interval

NONE: Final = "\N{EM DASH}"
_NS: Final = 1_000_000_000
_DECIMALS_MAX: Final = 4
_FUZZ: Final = 1e-9  # 1.43 * 100 is 143.00000000000001: not a reason to print 1.44


def decimals_for(width: float) -> int:
    """Decimals at which two numbers *width* apart differ, 0 to 4; 2 for a width of zero."""
    if not math.isfinite(width) or width <= 0:
        return 2
    return min(_DECIMALS_MAX, max(0, -math.floor(math.log10(width) + _FUZZ)))


def seconds(value: float, decimals: int | None = None) -> str:
    """As `1.42 s`; without *decimals*, three significant digits."""
    if not math.isfinite(value):
        return NONE
    if decimals is None:
        decimals = 2 if value == 0 else min(_DECIMALS_MAX, max(0, 2 - math.floor(math.log10(abs(value)) + _FUZZ)))
    return f"{value:.{decimals}f} s"


def interval(value: Interval) -> str:
    """As `1.42 s [1.40, 1.43]`."""
    decimals = decimals_for(value.hi - value.lo)
    return f"{seconds(value.value, decimals)} {bounds(value.lo, value.hi, decimals)}"


def bounds(lo: float, hi: float, decimals: int) -> str:
    """As `[1.40, 1.43]`, rounded outwards."""
    scale = 10**decimals
    low = math.floor(lo * scale + _FUZZ) / scale if math.isfinite(lo) else lo
    high = math.ceil(hi * scale - _FUZZ) / scale if math.isfinite(hi) else hi
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def objective(rto_s: float) -> str:
    """As `60 s`, `0.5 s`: an objective is written as its author wrote it."""
    return f"{rto_s:g} s"


def latency(value_ms: float) -> str:
    """As `12.3 ms`; a dash when no attempt succeeded."""
    if not math.isfinite(value_ms) or value_ms < 0:
        return NONE
    if value_ms >= 10_000:
        return seconds(value_ms / 1000)
    decimals = 2 if value_ms < 1 else 1 if value_ms < 100 else 0
    return f"{value_ms:.{decimals}f} ms"


def rate(interval_ms: float) -> str:
    """As `50 Hz` for a probe that is due every 20 ms."""
    return f"{1000 / interval_ms:.4g} Hz" if interval_ms > 0 else NONE


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """As `1 effect`, `3 effects`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def number(value: float) -> str:
    """A figure's value: up to four significant digits, no exponent below a million."""
    if not math.isfinite(value):
        return NONE
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 4 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value)) + _FUZZ))
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.4g}"


def gauge(value: float, unit: str) -> str:
    """As `37.5 %` for a fraction, `512 MiB` for bytes, else number and unit."""
    if unit == "B" and math.isfinite(value):
        steps = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
        size, name = next(((size, name) for size, name in steps if abs(value) >= size), (1, "B"))
        return f"{number(value / size)} {name}"
    return number(value) if unit in ("", "1") else f"{number(value)} {unit}"


def stamp(wall_ns: int) -> str:
    """As `2026-03-01 21:04:05 UTC`; a dash for 0."""
    return _utc(wall_ns).strftime("%Y-%m-%d %H:%M:%S UTC") if wall_ns > 0 else NONE


def iso(wall_ns: int) -> str:
    """As `2026-03-01T21:04:05`, UTC, as JUnit readers expect it."""
    return _utc(wall_ns).strftime("%Y-%m-%dT%H:%M:%S")


def clock(wall_ns: int) -> str:
    """As `21:04:05.123`; a dash for 0."""
    if wall_ns <= 0:
        return NONE
    return _utc(wall_ns).strftime("%H:%M:%S") + f".{wall_ns % _NS // 1_000_000:03d}"


def length(start_ns: int, end_ns: int) -> str:
    """As `1 min 42 s` between two instants; a dash while the end is unknown."""
    if start_ns <= 0 or end_ns <= start_ns:
        return NONE
    total_s = (end_ns - start_ns) / _NS
    if total_s < 60:
        return seconds(total_s, 1)
    minutes, rest = divmod(round(total_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def one_line(text: str, most: int = 300) -> str:
    """*text* without line breaks and runs of blanks, cut with an ellipsis at *most* characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def sentence(text: str) -> str:
    """*text* as one line that ends in a full stop."""
    flat = one_line(text)
    return flat if flat.endswith((".", "!", "?", "\N{HORIZONTAL ELLIPSIS}")) else flat + "."


def _utc(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns // _NS, UTC)
