"""What components tell about themselves: the text format of Prometheus, counters as differences, histograms as bounds.

Source: prometheus.io/docs/instrumenting/exposition_formats. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

Labels = Mapping[str, str]
Series = tuple[str, tuple[tuple[str, str], ...]]  # name, sorted labels
Scrape = dict[Series, float]
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse(text: str, wanted: Iterable[str]) -> Scrape:
    """Series whose names begin with one of *wanted*; millions of characters are skipped cheaply."""
    prefixes, found = tuple(wanted), {}
    for line in text.splitlines():
        if not line.startswith(prefixes):
            continue
        named, _, value = line.rpartition(" ")
        name, _, rest = named.partition("{")
        try:
            found[name, tuple(sorted(_LABEL.findall(rest)))] = float(value)
        except ValueError:
            continue
    return found


def difference(after: Scrape, before: Scrape) -> Scrape:
    """Of counters. A counter below its former value began anew: it counts from nothing."""
    return {key: value - (was if (was := before.get(key, 0.0)) <= value else 0.0) for key, value in after.items()}


def total(scrape: Scrape, name: str, where: Callable[[Labels], bool] = lambda _: True) -> float | None:
    """Sum over the series of that name; None where there are none."""
    values = [value for (named, labels), value in scrape.items() if named == name and where(dict(labels))]
    return math.fsum(values) if values else None


def quantile(
    scrape: Scrape, name: str, fraction: float, where: Callable[[Labels], bool] = lambda _: True
) -> tuple[float, float, int] | None:
    """Bounds of a quantile (lo, hi, samples): the bucket that it lies in, which is all that a histogram knows."""
    sums: dict[float, float] = {}
    for (named, pairs), value in scrape.items():
        labels = dict(pairs)
        if named == f"{name}_bucket" and where(labels):
            edge = float(labels["le"].replace("+Inf", "inf"))
            sums[edge] = sums.get(edge, 0.0) + value
    count = sums.get(math.inf, 0.0)
    if not count:
        return None
    below = 0.0
    for edge in sorted(sums):
        if sums[edge] >= fraction * count:
            return below, edge, round(count)
        below = edge
    return below, math.inf, round(count)
