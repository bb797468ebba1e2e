"""Targets of `resource.*`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.case import Case, holders, subject


@subject("resource.cpu")
def cpu() -> Iterator[Case]:
    yield Case("resource.cpu", {"load_fraction": 0.5, "workers": 1}, in_force=lambda: bool(holders()))
