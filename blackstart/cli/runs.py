"""`blackstart runs`: what was run, what is running, and what it proved."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from blackstart.cli.connection import Json, connect
from blackstart.cli.output import console, document, print_json, print_table, when, working
from protos.error import Exit

app = typer.Typer(no_args_is_help=True, help="Runs: list, show, watch, abort, report.")
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@app.command("list")
def list_(
    context: typer.Context,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 20,
    json: Json = False,
) -> None:
    """The newest runs."""
    with connect(context) as client:
        found = client.runs(most)
    if json:
        print_json([document(run) for run in found])
        return
    print_table(
        ("run", "experiment", "state", "verdict", "outcome", "by", "started"),
        [
            (
                run.id,
                run.title,
                run.state,
                "stranded" if run.stranded else run.verdict or "-",
                run.outcome or "-",
                run.actor,
                when(run.started_wall_ns or run.submitted_wall_ns),
            )
            for run in found
        ],
        "no runs yet",
    )


@app.command()
def show(context: typer.Context, run_id: RunId, json: Json = False) -> None:
    """A run's faults, recovery times, verdict and reasons."""
    from blackstart.cli.live import summary
    from blackstart.cli.table import show_run

    with connect(context) as client:
        run, found = client.show(run_id)
    if json:
        print_json({"run": document(run), "document": found})
        return
    show_run(found, console())
    summary(run)


@app.command()
def watch(context: typer.Context, run_id: RunId, json: Json = False) -> None:
    """Follow a run to its end; its verdict becomes the exit code. Ctrl-C leaves the run alone."""
    from blackstart.cli.live import Followed, exit_alone
    from blackstart.cli.run import show_end

    with connect(context) as client:
        ended = Followed(client, run_id, to_stderr=json).watch()
        show_end(client, ended, as_json=json)
    raise typer.Exit(exit_alone(ended))


@app.command()
def abort(
    context: typer.Context,
    run_id: RunId,
    reason: Annotated[str, typer.Option(help="Kept with the run.")] = "aborted by an operator",
    json: Json = False,
) -> None:
    """End a run now: what it injected is reverted."""
    with connect(context) as client, working("reverting"):
        run = client.abort(run_id, reason)
    print_json(document(run)) if json else print(f"run {run.id}: {run.state} {run.outcome}".rstrip())
    if run.stranded:
        raise typer.Exit(Exit.STRANDED)


@app.command()
def report(
    context: typer.Context,
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN...", help="One or more runs.")],
    form: Annotated[Literal["html", "json", "junit"], typer.Option("--format", help="Kind of report.")] = "json",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else stdout.")] = None,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "",
) -> None:
    """A report over one or more runs."""
    with connect(context) as client, working("rendering"):
        _, content = client.report(run_ids, form, title)
    if output is None:
        typer.get_binary_stream("stdout").write(content)
        return
    output.write_bytes(content)
    print(output)
