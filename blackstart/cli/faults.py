"""`blackstart faults`: what can be injected, from the catalogue; and by which agents, where a controller answers."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackstart.cli.connection import Json, connect
from blackstart.cli.output import console, document, print_json, print_table
from protos import catalogue
from protos.error import BlackstartError, Problem, SpecError

if TYPE_CHECKING:
    from protos import blackstart_operator_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Kinds of fault: list, show. Both work without a controller.")
Row = dict[str, Any]
_PARTS = (
    ("How", "mechanism"), ("Proof of effect", "proof"), ("Ends", "ends"), ("Limits", "limits"), ("Source", "source")
)  # fmt: skip


@app.command("list")
def list_faults(context: typer.Context, json: Json = False) -> None:
    """Kinds of fault, who ends them, what they do, and how many agents can inject them."""
    fleet, away = _fleet(context)
    counts = {fault.kind: fault for fault in fleet[0]} if fleet else {}
    rows = [_listed(kind, counts, connected=fleet is not None) for kind in sorted({*catalogue.catalogue(), *counts})]
    if json:
        print_json(rows)
        return
    columns = ("fault", "undone by", *(("agents",) if fleet else ()), "does")
    cells = [
        (row["kind"], row["undo"])
        + ((f"{row['agents_available']} of {row['agents_total']}",) if fleet else ())
        + (row["does"],)
        for row in rows
    ]
    print_table(columns, cells, "the catalogue is empty")
    if away:
        print(f"which agents can inject them is not known: {away}", file=sys.stderr)


@app.command("show")
def show_fault(
    context: typer.Context, kind: Annotated[str, typer.Argument(help="As `faults list` has it.")], json: Json = False
) -> None:
    """One kind of fault: what it does, how it is proven and ended, its fields, and which agents can run it."""
    if kind in catalogue.catalogue():
        found: Row | None = dict(catalogue.entry(kind))
        fleet, away = _fleet(context)
    else:  # an agent of a later version may know it
        fleet, away = _fleet(context)
        found = None
        if fleet is None or kind not in {fault.kind for fault in fleet[0]}:
            known = {*catalogue.catalogue(), *(fault.kind for fault in (fleet[0] if fleet else ()))}
            raise SpecError(Problem("fault", f"there is no kind {kind!r}", catalogue.suggestion(kind, known)))
    agents = _agents(kind, fleet[1]) if fleet else None
    if json:
        print_json((found or {"kind": kind}) | {"fields": _fields(kind) if found else [], "agents": agents})
        return
    if found:
        _page(found)
    else:
        print(f"{kind}: this version's catalogue does not have it; the agents below do")
    if agents is None:
        print(f"which agents can inject it is not known: {away}", file=sys.stderr)
    else:
        print_table(
            ("agent", "here", "missing"),
            [(row["agent"], "yes" if row["available"] else "no", row["missing"]) for row in agents],
            "no agent offers it",
        )


def _fleet(context: typer.Context) -> tuple[tuple[list["pb.FaultKind"], list["pb.Agent"]] | None, str]:
    """What the controller says of faults and agents; None and why not, where none is configured or none answers."""
    try:
        with connect(context) as client:
            return (client.faults(), client.agents()), ""
    except SpecError as error:
        return None, error.problems[0].what
    except BlackstartError as error:
        return None, str(error).splitlines()[0]


def _listed(kind: str, counts: dict[str, "pb.FaultKind"], *, connected: bool) -> Row:
    known, there = catalogue.catalogue().get(kind), counts.get(kind)
    return {
        "kind": kind,
        "undo": known["undo"] if known else there.undo if there else "",
        "does": known["page"]["does"] if known else "(not in this version's catalogue)",
        "agents_available": there.agents_available if there else 0 if connected else None,
        "agents_total": there.agents_total if there else 0 if connected else None,
        "missing": list(there.missing) if there else [] if connected else None,
    }


def _agents(kind: str, fleet: list["pb.Agent"]) -> list[Row]:
    return [
        {"agent": agent.id, "connected": agent.connected, **row}
        for agent in fleet
        for row in document(agent)["capabilities"] or []
        if row["kind"] == kind and row["family"] == "fault"
    ]


def _fields(kind: str) -> list[Row]:
    from dataclasses import asdict

    return [asdict(field) for field in catalogue.fields(kind)]


def _page(entry: Row) -> None:
    from json import dumps

    from rich.padding import Padding
    from rich.text import Text

    out, page = console(), entry["page"]
    out.print(Text.assemble((entry["kind"], "bold"), f"  undone by {entry['undo']}"))
    out.print(Text(page["does"]))
    out.print()
    for title, name in _PARTS:
        if page.get(name):
            out.print(Padding(Text.assemble((f"{title}: ", "bold"), page[name]), (0, 0, 0, 2)))
    out.print()
    print_table(
        ("field", "type", "default", "meaning"),
        [
            (f.name, f.type, "required" if f.required else f.default, f.description)
            for f in catalogue.fields(entry["kind"])
        ],
        "it takes no fields",
    )
    out.print(Text("example:", "bold"))
    print(f"  fault: {entry['kind']}\n  spec: {dumps(page['example'], ensure_ascii=False)}")
