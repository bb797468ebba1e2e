"""`blackstart agents`, `stop`, `audit`: the fleet and its emergency stop."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from blackstart.cli.connection import Json, connect
from blackstart.cli.output import age, document, print_json, print_table, when, working
from protos.error import Exit, Problem, SpecError

if TYPE_CHECKING:
    from protos import blackstart_operator_pb2 as pb

_RARE = frozenset({"stranded", "spooled", "dropped"})

agents = typer.Typer(no_args_is_help=True, help="Agents: list, show.")


@agents.command("list")
def list_agents(context: typer.Context, json: Json = False) -> None:
    """Every agent that ever joined."""
    with connect(context) as client:
        found = client.agents()
    if json:
        print_json([document(agent) for agent in found])
        return
    columns: dict[str, list[Any]] = {
        "agent": [agent.id for agent in found],
        "connected": ["yes" if agent.connected else "no" for agent in found],
        "labels": [_labels(agent.labels) for agent in found],
        "seen": [age(agent.seen_wall_ns) for agent in found],
        "clock offset": [f"{agent.offset_s * 1e3:+.2f} ± {agent.offset_error_s * 1e3:.2f} ms" for agent in found],
        "in force": [agent.effects for agent in found],
        "stranded": [len(left_at(agent)) for agent in found],
        "spooled": [agent.spooled for agent in found],
        "dropped": [agent.dropped for agent in found],
        "version": [agent.version for agent in found],
    }
    # What is 0 everywhere, as it should be, takes no room from the rest.
    shown = {name: cells for name, cells in columns.items() if name not in _RARE or any(cells)}
    print_table(
        tuple(shown), zip(*shown.values(), strict=True),
        "no agents have joined: `blackstart certs join-token` lets one in",
    )  # fmt: skip
    for line in (line for agent in found for line in left_at(agent)):
        print(line)


@agents.command("show")
def show_agent(
    context: typer.Context, agent_id: Annotated[str, typer.Argument(metavar="AGENT")], json: Json = False
) -> None:
    """One agent, and what it can and cannot do."""
    with connect(context) as client:
        found = {agent.id: agent for agent in client.agents()}
    agent = found.get(agent_id)
    if agent is None:
        raise SpecError(
            Problem("agent", f"there is no {agent_id!r}", f"there are: {', '.join(sorted(found)) or 'none'}")
        )
    shown = document(agent)
    if json:
        print_json(shown)
        return
    state = "connected" if agent.connected else f"not connected, seen {age(agent.seen_wall_ns)} ago"
    print(f"{agent.id}: {state}\nlabels: {_labels(agent.labels)}\nversion: {agent.version}")
    for line in left_at(agent):
        print(line)
    print_table(
        ("family", "kind", "here", "undo", "missing"),
        [
            (row["family"], row["kind"], "yes" if row["available"] else "no", row["undo"], row["missing"])
            for row in shown["capabilities"] or []
        ],
        "it has not said what it can do",
    )


def stop(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Revert every effect on every agent, refuse new runs.")
    ] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Allow runs again.")] = False,
    reason: Annotated[str, typer.Option(help="Kept in the audit.")] = "",
    json: Json = False,
) -> None:
    """The emergency stop."""
    if everything == lift:
        raise SpecError(Problem("stop", "say either --all or --lift"))
    with connect(context) as client, working("lifting" if lift else "reverting every effect"):
        reply = client.lift(reason) if lift else client.stop(reason)
    if json:
        print_json(document(reply))
    elif lift:
        print(f"lifted on {reply.agents} agents: runs are allowed again")
    else:
        print(f"stopped: {reply.effects_reverted} effects reverted on {reply.agents} agents; --lift allows runs again")
        for name in reply.unreachable:
            print(f"{name} did not answer: what it holds ends by its own deadline or lease")
        for line in reply.stranded:
            print(f"stranded: {line}")
    if reply.stranded:
        raise typer.Exit(Exit.STRANDED)
    if reply.unreachable:
        raise typer.Exit(Exit.INCONCLUSIVE)


def audit(
    context: typer.Context,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 50,
    json: Json = False,
) -> None:
    """Who called what, when, with which outcome."""
    with connect(context) as client:
        found = client.audit(most)
    if json:
        print_json([document(record) for record in found])
        return
    print_table(
        ("when", "who", "role", "call", "subject", "outcome"),
        [(when(r.wall_ns), r.actor, r.role, r.method, r.subject, r.outcome) for r in found],
        "nothing was called yet",
    )


def left_at(agent: "pb.Agent") -> list[str]:
    """What a human has to end there, a line each with the command, and what the agent's audit found."""
    stranded = [
        f"stranded on {agent.id}: {row.get('description') or row['id']}; by hand: {row.get('remedy') or 'its journal'}"
        for row in document(agent)["stranded"] or []
    ]
    return stranded + [f"left behind on {agent.id}: {text}" for text in agent.residue]


def _labels(labels: object) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(dict(labels).items()))  # type: ignore[call-overload]
