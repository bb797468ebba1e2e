"""Reports as JSON: one schema with a version, which reads back to the same documents.

Invariant: `from_json(to_json(documents, title)) == (title, documents)`. Derived parts (`overall`, `summary`,
`zero_residue`) are for readers that show them; they are computed anew on writing and ignored on reading. Numbers that
JSON cannot carry are written as "NaN", "Infinity" and "-Infinity", as protobuf does.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.report.certificate import certificate
from controller.report.document import Json, RunDocument
from controller.report.summary import overall, rows
from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA: Final = "blackstart.report/1"
_REMEDY: Final = "write it with `blackstart runs report --format json` of this version"


def report_document(documents: Sequence[RunDocument], title: str) -> Json:
    """The whole report as plain JSON values: `schema`, `title`, `overall`, `runs`."""
    return {
        "schema": SCHEMA,
        "title": title,
        "overall": asdict(overall(documents)),
        "runs": [run_document(document) for document in documents],
    }


def run_document(document: RunDocument) -> Json:
    """One run as plain JSON values: the fields of `RunDocument`, `summary` (its table's rows) and `zero_residue`."""
    plain: Json = _finite(msgspec.to_builtins(document))
    plain["summary"] = msgspec.to_builtins(rows(document))
    plain["zero_residue"] = msgspec.to_builtins(certificate(document))
    return plain


def to_json(documents: Sequence[RunDocument], title: str) -> bytes:
    """The report, indented, UTF-8."""
    return msgspec.json.format(msgspec.json.encode(report_document(documents, title)), indent=2) + b"\n"


def run_to_json(document: RunDocument) -> bytes:
    """One run, compact: what `ShowRun` carries and the store keeps."""
    return msgspec.json.encode(run_document(document))


def from_json(content: bytes) -> tuple[str, list[RunDocument]]:
    """Title and runs of a report. Raises SpecError for anything that `to_json` did not write."""
    report = _mapping(content)
    if report.get("schema") != SCHEMA:
        said = f"the schema is {report.get('schema')!r}, not {SCHEMA!r}"
        raise SpecError(Problem("report.schema", said, _REMEDY))
    runs = report.get("runs")
    if not isinstance(runs, list):
        raise SpecError(Problem("report.runs", "a list of runs is missing", _REMEDY))
    return str(report.get("title", "")), [_run(run, f"report.runs[{at}]") for at, run in enumerate(runs)]


def run_from_json(content: bytes) -> RunDocument:
    """The run that `run_to_json` wrote."""
    return _run(_mapping(content), "run")


def _mapping(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise SpecError(Problem("report", f"this is no JSON report: {error}", _REMEDY)) from error


def _run(run: Any, where: str) -> RunDocument:
    try:
        return msgspec.convert(run, RunDocument, strict=False)
    except msgspec.ValidationError as error:
        raise SpecError(Problem(where, str(error), _REMEDY)) from error


def _finite(value: Any) -> Any:
    """*value* with every number that JSON cannot carry replaced by its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
