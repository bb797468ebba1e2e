"""Energy meters of the node's processors.

Source: Documentation/power/powercap/powercap.rst of Linux: `energy_uj` counts up to `max_energy_range_uj` and begins
anew. Only whole packages are read: their parts are within them. Since CVE-2020-8694 only root may.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/class/powercap")


def _is_package(zone: Path) -> bool:
    """Neither a part of one nor the whole platform (psys), which holds them."""
    try:
        return zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package")
    except OSError:
        return False


class Meter:
    """Of all packages together, from now on. `missing` says why there is none."""

    def __init__(self, root: Path = ROOT) -> None:
        self._joules, self.missing = 0.0, ""
        self._packages: list[Path] = []
        self._last: list[int] = []
        self._range: list[int] = []
        found = [one for one in sorted(root.glob("intel-rapl:*")) if _is_package(one)]
        try:
            self._range = [int((one / "max_energy_range_uj").read_text()) for one in found]
            self._last = [int((one / "energy_uj").read_text()) for one in found]
            self._packages = found
        except (OSError, ValueError) as error:
            self.missing = f"the energy meter cannot be read: {error}"
        if not found:
            self.missing = "no energy meter"

    def joules(self) -> float:
        """Since this meter was made; ask more often than counters begin anew, which takes minutes at 250 W."""
        for at, package in enumerate(self._packages):
            try:
                now = int((package / "energy_uj").read_text())
            except (OSError, ValueError) as error:
                self.missing = f"the energy meter cannot be read any more: {error}"
                self._packages = []
                break
            used = now - self._last[at]
            self._joules += (used if used >= 0 else used + self._range[at]) / 1e6
            self._last[at] = now
        return self._joules
