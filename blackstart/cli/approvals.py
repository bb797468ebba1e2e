"""`blackstart approve`, `blackstart approvals`: the second person for experiments that are tagged dangerous."""

from pathlib import Path
from typing import Annotated

import typer

from blackstart.cli.connection import Json, Profile, Variables, connect, placed, read_submission
from blackstart.cli.output import document, print_json, print_table, when

app = typer.Typer(no_args_is_help=True, help="Approvals of dangerous experiments: list.")


def approve(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The experiment, exactly as it will be run.")],
    var: Variables = None,
    profile: Profile = None,
    valid_s: Annotated[float, typer.Option("--valid-s", min=1, help="Seconds until it expires.")] = 86400,
    json: Json = False,
) -> None:
    """Allow somebody else one run of an experiment that is tagged dangerous.

    What is approved is the experiment with the values of its variables: any change needs a new approval. Objectives
    (--profile) are read and checked as by `run`, and are no part of it.
    """
    experiment, submission = read_submission(file, var, profile)
    with connect(context) as client, placed(file):
        given = client.approve(experiment, **submission, valid_s=valid_s)
    if json:
        print_json(document(given))
    else:
        print(f"approved {given.title!r} ({given.digest[:12]}) for one run by somebody else, until "
              f"{when(given.expires_wall_ns)}")  # fmt: skip


@app.command("list")
def list_(
    context: typer.Context,
    most: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 50,
    json: Json = False,
) -> None:
    """Approvals, used and unused."""
    with connect(context) as client:
        found = client.approvals(most)
    if json:
        print_json([document(approval) for approval in found])
        return
    print_table(
        ("digest", "experiment", "file", "by", "given", "expires", "run"),
        [
            (
                a.digest[:12],
                a.title,
                a.source,
                a.approver,
                when(a.approved_wall_ns),
                when(a.expires_wall_ns),
                a.run_id or "-",
            )
            for a in found
        ],
        "nothing was approved yet",
    )
