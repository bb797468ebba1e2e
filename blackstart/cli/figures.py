"""What a run found and what it would do, as tables."""

from typing import TYPE_CHECKING, Any

from blackstart.cli.output import console, print_table

if TYPE_CHECKING:
    from rich.tree import Tree

    from blackstart.client import Client

Document = dict[str, Any]
COLUMNS = ("fault", "target", "receipt", "outage", "recovery", "rto", "verdict", "residue")


def show_report(client: "Client", run_ids: list[str]) -> None:
    """The rows of the runs' report."""
    for run_id in run_ids:
        show_document(client.show(run_id)[1])


def show_document(document: Document) -> None:
    """The rows of one run, with its reasons."""
    rows = document.get("summary") or []
    if rows:
        print_table(COLUMNS, [[row.get(column, "") for column in COLUMNS] for row in rows], "")
    for reason in document.get("reasons") or []:
        print(f"- {reason}")


def print_plan(plan: Document) -> None:
    """A plan as the controller resolved it, as a tree."""
    from rich.tree import Tree

    tree = Tree("what would happen; nothing was touched")
    _grow(tree, plan)
    console().print(tree)


def _grow(tree: "Tree", value: Any) -> None:
    from rich.markup import escape

    pairs = value.items() if isinstance(value, dict) else [("", item) for item in value]
    for key, inner in pairs:
        label = f"[bold]{escape(str(key))}[/bold]" if key else ""
        if isinstance(inner, dict | list):
            if inner:
                named = (
                    inner.get("name") or inner.get("id") or inner.get("agent_id") if isinstance(inner, dict) else None
                )
                _grow(tree.add(label or escape(str(named or "-"))), inner)
        elif inner not in (None, ""):
            tree.add(f"{label} {escape(str(inner))}".strip())
