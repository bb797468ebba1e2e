"""Figures and where they come from: no figure without its provenance.

Invariant: a `Figure` cannot be made without saying whether it was measured, modelled or assumed, and by what.
Source: the three words are defined in docs/measuring-recovery.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Measured:
    """Read off a real system in this run."""

    method: str
    samples: int
    lo: float  # bounds on the value, in the figure's unit
    hi: float
    kind: Literal["measured"] = "measured"


@dataclass(frozen=True, slots=True)
class Modelled:
    """Computed by *model* from *inputs*, which are names of figures or parameters."""

    model: str
    inputs: tuple[str, ...]
    kind: Literal["modelled"] = "modelled"


@dataclass(frozen=True, slots=True)
class Assumed:
    """Taken from outside: a price, a quota. *date* is ISO 8601."""

    source: str
    date: str
    kind: Literal["assumed"] = "assumed"


@dataclass(frozen=True, slots=True)
class Figure:
    """A named value in a unit, with its provenance."""

    name: str
    value: float
    unit: str
    provenance: Measured | Modelled | Assumed

    def document(self) -> dict[str, Any]:
        """JSON form; `figure_from` reads it back."""
        return asdict(self)


def figure_from(document: dict[str, Any]) -> Figure:
    """The figure that `Figure.document` wrote."""
    provenance = dict(document["provenance"])
    kinds: dict[str, Callable[..., Measured | Modelled | Assumed]] = {
        "measured": Measured, "modelled": Modelled, "assumed": Assumed,
    }  # fmt: skip
    made = kinds[provenance["kind"]](**{k: tuple(v) if isinstance(v, list) else v for k, v in provenance.items()})
    return Figure(str(document["name"]), float(document["value"]), str(document["unit"]), made)
