"""The final table of a gameday or a run, from the JSON form of its report.

Invariant: every cell is a string that the controller formatted; here they are only laid out, for 80 columns as for 160.
A verdict is a word and a mark, never a colour alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

Row = dict[str, Any]
_WIDE: Final = 150  # from here on, a cell is one line
_STYLES: Final = {
    "held": ("✓", "green"),
    "inconclusive": ("?", "yellow"),
    "deviated": ("✗", "bold red"),
    "not tested": ("-", "dim"),
}
_NONE: Final = "—"
_FIGURES: Final = ("receipt", "outage", "recovery", "RTO", "verdict", "residue")
_FIGURES_NARROW: Final = ("receipt", "outage", "recovery, RTO", "verdict", "residue")


def show(content: bytes, console: Console) -> None:
    """Prints the whole of a JSON report: its table, the verdict in words, and why what did not hold did not.

    Raises:
        SpecError: *content* is no report.
    """
    try:
        report = json.loads(content)
        runs, overall = report["runs"], report["overall"]
        rows = [row for run in runs for row in run["summary"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(Problem("report", f"this is no JSON report: {error!r}", "ask for the format json")) from error
    console.print(table(rows, console.width, str(report.get("title", ""))))
    console.print()
    console.print(Text.assemble(verdict(overall["verdict"]), "  ", overall["words"]), soft_wrap=True)
    _residues(runs, console)
    for run in runs:
        if run.get("verdict") in ("inconclusive", "deviated"):
            reasons(run["title"], run["reasons"], console)
    for row in rows:
        if row["verdict"] == "not tested":
            reasons(row["name"], ["Not tested: " + " ".join(row["reasons"])], console)


def _residues(runs: Sequence[Mapping[str, Any]], console: Console) -> None:
    """In how many of the runs with faults every node was certified; and what is left of any."""
    found = [run.get("zero_residue") or {} for run in runs if run.get("injections")]
    if found:
        certified = sum(bool(one.get("certified")) for one in found)
        console.print(Text(f"zero residue: certified in {certified} of {len(found)} runs with faults"), soft_wrap=True)
    for one in found:
        if not one.get("clean"):
            residue(one, console)


def show_run(document: Mapping[str, Any], console: Console) -> None:
    """Prints the rows of one run, its reasons and its residue; nothing for a run that has none of these yet."""
    if not (rows := document.get("summary") or []):
        return
    console.print(table(rows, console.width))
    reasons("", document.get("reasons") or [], console)
    for entry in document.get("workloads") or ():
        told = entry["detail"].get("lines") if isinstance(entry["detail"], dict) else None
        reasons("", [f"{entry['agent_id']}: {entry['summary']}", *map(str, told or ())], console)
    for entry in document.get("phases") or ():
        console.print(Text(f"  {phases(entry)}"), soft_wrap=True)
    for entry in document.get("cascades") or ():
        console.print(Text(f"  {cascade(entry)}"), soft_wrap=True)
    if document.get("injections"):
        residue(document.get("zero_residue") or {}, console)


def phases(entry: Mapping[str, Any]) -> str:
    """What a recovery consisted of, in one line."""
    parts = " + ".join(f"{step['name']} {step['took_s']:.2f} s" for step in entry["steps"])
    lacks = f"; nothing told of {', '.join(entry['missing'])}" if entry["missing"] else ""
    return f"{entry['probe']} after {entry['after']}: {parts or 'nothing was seen'}{lacks}"


def cascade(entry: Mapping[str, Any]) -> str:
    """What failed when, in one line."""
    parts = [
        f"{step['probe']} [{step['failed']['lo']:.2f}, {step['failed']['hi']:.2f}] s" if step["failed"]
        else f"{step['probe']} was not seen to"
        for step in entry["steps"]
    ]  # fmt: skip
    return f"failed after {entry['after']}: {', '.join(parts)}"


def residue(certificate: Mapping[str, Any], console: Console) -> None:
    """What was certified; or each thing that is left, with the command for a human."""
    style = "" if certificate.get("clean") else "bold red"
    console.print(Text(f"  {certificate.get('words', '')}", style), soft_wrap=True)
    for line in certificate.get("left") or ():
        console.print(Text(f"    {line}", style), soft_wrap=True)


def reasons(title: str, told: Sequence[str], console: Console) -> None:
    """The sentences, one a line under *title*."""
    if title and told:
        console.print(Text(title, style="bold"), soft_wrap=True)
    for reason in told:
        console.print(Text(f"  {reason}"), soft_wrap=True)


def verdict(word: str) -> Text:
    """The mark and the word, in colour."""
    mark, style = _STYLES.get(word, ("?", "yellow"))
    return Text(f"{mark} {word}", style=style, no_wrap=True)


def table(rows: Sequence[Row], width: int, title: str = "") -> Table:
    """The rows; on a narrow terminal the target goes under the fault, and bounds and objective under the recovery."""
    wide = width >= _WIDE
    made = Table(
        title=Text(title) if title else None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if wide else 0, 0, 0),
        leading=0 if wide else 1,
    )
    # No other column may shrink: what is short of room wraps in the fault, where no figure is.
    made.add_column("fault", overflow="fold", min_width=12)
    if wide:
        made.add_column("target", overflow="fold")
    for name in _FIGURES if wide else _FIGURES_NARROW:
        made.add_column(name, no_wrap=True)
    for row in rows:
        made.add_row(*(_wide(row) if wide else _narrow(row)))
    return made


def _wide(row: Row) -> tuple[Text, ...]:
    name = Text(row["name"], style="bold")
    fault = name if row["fault"] in (_NONE, row["name"]) else Text.assemble(name, f"  {row['fault']}")
    shown = (Text(row[key]) for key in ("target", "receipt", "outage", "recovery"))
    return (fault, *shown, _rto(row["rto"]), verdict(row["verdict"]), _residue(row["residue"]))


def _narrow(row: Row) -> tuple[Text, ...]:
    under = [line for line in (row["fault"], row["target"]) if line not in (_NONE, row["name"])]
    fault = Text.assemble((row["name"], "bold"), ("".join(f"\n{line}" for line in under), "dim"))
    recovery = _lines(row["recovery"])
    if row["rto"] not in (_NONE, "none"):
        recovery.append("\n").append_text(_rto(row["rto"]))
    receipt = Text(row["receipt"].replace(" ", "\n"))
    return fault, receipt, _lines(row["outage"]), recovery, verdict(row["verdict"]), _residue(row["residue"])


def _lines(text: str) -> Text:
    """A value, its bounds, and what follows them, a line each."""
    return Text(text.replace(" [", "\n[").replace("] ", "]\n"))


def _rto(text: str) -> Text:
    limit, _, word = text.rpartition(" ")
    style = {"met": "green", "missed": "bold red", "unproven": "yellow"}.get(word)
    return Text(text) if style is None else Text.assemble(limit, " ", (word, style))


def _residue(text: str) -> Text:
    return Text(text.replace("not checked", "not\nchecked"), style="" if text in ("none", _NONE) else "bold red")
