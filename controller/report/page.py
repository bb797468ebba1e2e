"""Reports as one HTML file: no script, no font, no image from elsewhere, readable in light, dark and on paper.

Invariant: every text goes through autoescape, and a Content-Security-Policy in the page forbids scripts and requests
even so. The templates lay out; words and figures come from `summary` and `format`, drawings from `timeline`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2

from controller.report import format as fmt
from controller.report.certificate import Certificate, certificate
from controller.report.encode_chart import encode_panels
from controller.report.panel import Panel
from controller.report.spread import spread_charts
from controller.report.summary import NOT_TESTED, Row, outage_interval, overall, provenance, rows, took, verdict_of
from controller.report.timeline import Chart, close_ups, run_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.report.document import Json, RunDocument

_MARKS: Final = {"held": "\N{CHECK MARK}", "inconclusive": "?", "deviated": "\N{MULTIPLICATION X}", NOT_TESTED: "–"}  # noqa: RUF001
_ENDED_BY: Final = {
    "kernel": "kernel (ends by itself, also without the agent)",
    "guardian": "guardian (armed before the fault)",
    "journal": "journal (at the agent's next start)",
    "self_healing": "nothing to undo: the system itself recovers",
}
_EVENTS_OPEN_MAX: Final = 30


@dataclass(frozen=True, slots=True)
class RunView:
    """A run beside what is shown of it."""

    anchor: str
    document: RunDocument
    verdict: str
    rows: tuple[Row, ...]
    chart: Chart | None
    close_ups: tuple[Chart, ...]
    certificate: Certificate
    panels: tuple[Panel, ...]


def to_html(documents: Sequence[RunDocument], title: str) -> bytes:
    """The report as one self-contained page, UTF-8."""
    views = [_view(number, document) for number, document in enumerate(documents, 1)]
    template = _environment().get_template("page.html.j2")
    text = template.render(
        title=title, overall=overall(documents), views=views, span=_span(documents), charts=spread_charts(documents)
    )
    return text.encode("utf-8", errors="replace")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "fmt": fmt, "marks": _MARKS, "ended_by": _ENDED_BY, "events_open_max": _EVENTS_OPEN_MAX,
        "outage_interval": outage_interval, "provenance": provenance, "took": took, "figure_origin": figure_origin,
    }  # fmt: skip
    return environment


def figure_origin(figure: Json) -> str:
    """Where a figure comes from, in words."""
    origin: dict[str, Any] = dict(figure.get("provenance") or {})
    match origin.get("kind"):
        case "measured":
            samples = fmt.plural(int(origin["samples"]), "sample")
            bounds = f"bounds {fmt.number(float(origin['lo']))} to {fmt.number(float(origin['hi']))}"
            return f"measured: {origin['method']}, {samples}, {bounds}"
        case "modelled":
            return f"modelled by {origin['model']} from {', '.join(map(str, origin['inputs']))}"
        case "assumed":
            return f"assumed: {origin['source']}, {origin['date']}"
    return "origin unknown"


def _view(number: int, document: RunDocument) -> RunView:
    return RunView(
        anchor=f"run-{number}",
        document=document,
        verdict=NOT_TESTED if document.skipped else verdict_of(document).value,
        rows=rows(document),
        chart=run_chart(document),
        close_ups=close_ups(document),
        certificate=certificate(document),
        panels=encode_panels(document),
    )


def _span(documents: Sequence[RunDocument]) -> tuple[int, int]:
    """First start and last end of the runs that were made, 0 when there were none."""
    starts = [document.started_wall_ns for document in documents if document.started_wall_ns]
    ends = [document.ended_wall_ns for document in documents if document.ended_wall_ns]
    return min(starts, default=0), max(ends, default=0)
