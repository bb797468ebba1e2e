"""`blackstart schedule`: runs that the controller starts by itself."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from blackstart.cli.connection import Json, Profile, Variables, connect, placed, read_submission
from blackstart.cli.output import document, print_json, print_table, when
from protos.error import Problem, SpecError

app = typer.Typer(no_args_is_help=True, help="Scheduled runs: add, list, remove.")


@app.command()
def add(
    context: typer.Context,
    name: str,
    file: Annotated[Path, typer.Argument(help="An experiment.")],
    cron: Annotated[str, typer.Option(metavar="'M H DOM MON DOW'", help="Five fields, UTC.")] = "",
    at: Annotated[str, typer.Option(metavar="TIME", help="Once, ISO 8601; UTC where no zone is given.")] = "",
    var: Variables = None,
    profile: Profile = None,
    json: Json = False,
) -> None:
    """Add a schedule, or replace the one of that name."""
    if bool(cron) == bool(at):
        raise SpecError(Problem("schedule", "say either --cron or --at"))
    experiment, submission = read_submission(file, var, profile)
    with connect(context) as client, placed(file):
        added = client.add_schedule(
            name,
            experiment,
            cron=cron,
            at_wall_ns=_moment_ns(at) if at else 0,
            **submission,
        )
    print_json(document(added)) if json else print(f"{added.name}: next run {when(added.next_wall_ns)}")


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """All schedules."""
    with connect(context) as client:
        found = client.schedules()
    if json:
        print_json([document(schedule) for schedule in found])
        return
    print_table(
        ("name", "experiment", "when", "next", "last run"),
        [(s.name, s.source, s.cron or when(s.at_wall_ns), when(s.next_wall_ns), s.last_run_id or "-") for s in found],
        "nothing is scheduled",
    )


@app.command()
def remove(context: typer.Context, name: str, json: Json = False) -> None:
    """Remove a schedule; a run that it has started goes on."""
    with connect(context) as client:
        removed = client.remove_schedule(name)
    print_json(document(removed)) if json else print(f"{removed.name}: removed")


def _moment_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SpecError(Problem("--at", f"{text!r} is no time", "write 2026-01-31T09:00:00")) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000
