"""The one door to reports: documents in, a file of the wanted format out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from controller.report import document_json, junit, page
from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from controller.report.document import RunDocument

_FORMATS: Final[dict[str, tuple[str, Callable[[Sequence[RunDocument], str], bytes]]]] = {
    "html": ("text/html; charset=utf-8", page.to_html),
    "json": ("application/json", document_json.to_json),
    "junit": ("application/xml", junit.to_junit),
}
FORMATS: Final = tuple(_FORMATS)


def render(documents: Sequence[RunDocument], title: str, format: str) -> tuple[str, bytes]:  # noqa: A002
    """Media type and content of the report.

    Raises:
        SpecError: *format* is none of `FORMATS`.
    """
    if format not in _FORMATS:
        raise SpecError(Problem("format", f"there is no report format {format!r}", f"use one of {', '.join(FORMATS)}"))
    media_type, write = _FORMATS[format]
    return media_type, write(documents, title)
