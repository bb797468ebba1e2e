"""`blackstart run`: submits an experiment and follows it to its verdict."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blackstart.cli.connection import Json, Profile, Variables, connect, placed, read_submission
from blackstart.cli.output import console, document, print_json, working
from protos.error import Exit, Problem, SpecError


def run(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="An experiment in Chaos Toolkit's format, YAML or JSON.")],
    var: Variables = None,
    profile: Profile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show targets and effects; touch nothing.")] = False,
    watch: Annotated[bool, typer.Option(help="Follow the run to its end, and exit as it ended.")] = True,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Run it so often, and show the distribution.")] = 1,
    settle_s: Annotated[float, typer.Option("--settle", min=0, help="Seconds between two trials.")] = 5.0,
    baseline: Annotated[
        Path | None, typer.Option(help="JSON of earlier trials: exit 1 where recovery has become slower.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the trials as JUnit, too.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the trials as a page with plots, too.")] = None,
    json: Json = False,
) -> None:
    """Run an experiment. Ctrl-C aborts it and waits for the reverts."""
    asked = {"--baseline": baseline, "--junit": junit, "--html": html}
    if trials == 1 and (given := next((name for name, value in asked.items() if value), "")):
        raise SpecError(Problem(given, "is of several trials", "add --trials 20"))
    if html and junit and html.absolute() == junit.absolute():
        raise SpecError(Problem("--html", "is the same file as --junit", "name two"))
    experiment, submission = read_submission(file, var, profile)
    with connect(context) as client, placed(file):
        if dry_run:
            with working("resolving targets and effects"):
                plan = client.plan(experiment, **submission)
            show_plan(plan, as_json=json)
            return
        if trials > 1:
            from blackstart.cli.trials import Trials, read_baseline, writable

            files = {"junit": writable("--junit", junit), "html": writable("--html", html)}
            wanted = Trials(trials, settle_s, read_baseline(baseline), files)
            raise typer.Exit(wanted.run(client, experiment, submission, as_json=json))
        submitted = client.submit(experiment, **submission)
        if not watch:
            print_json(document(submitted)) if json else print(submitted.id)
            return
        from blackstart.cli.live import Followed, exit_alone

        ended, aborted = Followed(client, submitted.id, to_stderr=json).watch_or_abort()
        show_end(client, ended, as_json=json)
        raise typer.Exit(exit_alone(ended, aborted=aborted))


def show_end(client: Any, ended: Any, *, as_json: bool) -> None:
    """The run's document, or its last lines with the figures' table."""
    if as_json:
        print_json({"run": document(ended), "document": client.show(ended.id)[1]})
        return
    from blackstart.cli.live import summary
    from blackstart.cli.table import show_run

    show_run(client.show(ended.id)[1], console())
    summary(ended)


def show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    """Targets and effects that a run would have, and every reason why it would be refused."""
    if as_json:
        print_json(plan)
    else:
        from blackstart.cli.dry_run import print_plan

        print_plan(plan)
    if plan.get("problems"):
        raise typer.Exit(Exit.BAD_INPUT)
