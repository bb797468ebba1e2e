"""`blackstart services`: test services on hosts of their own, to practise on."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Test services (PostgreSQL, Redis, …) on hosts of their own, to try recoveries on."
)
State = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Where their files are; default: below ~/.local/state.")
]
Variables = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A variable of the file; may be repeated.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Their description, such as deploy/services/postgres.yaml.")]


@app.command()
def up(file: File, state: State = None, set_: Variables = None) -> None:
    """Start the services, a controller and an agent on each host, in the foreground. Needs root."""
    from blackstart.local.service_run import up as start

    raise typer.Exit(start(file, _state(state), _pairs(set_)))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def exec(context: typer.Context, state: State = None) -> None:  # noqa: A001 - the command's name
    """Carry out a command where the services are: `services exec -- blackstart run FILE`."""
    from blackstart.local.service_run import run_inside
    from protos.error import Problem, SpecError

    if not context.args:
        raise SpecError(Problem("services exec", "names no command", "write: services exec -- blackstart agents list"))
    run_inside(_state(state), context.args)


def _state(state: Path | None) -> Path:
    from blackstart.settings import state_directory

    return state or state_directory() / "services"


def _pairs(given: list[str] | None) -> dict[str, str]:
    from protos.error import Problem, SpecError

    pairs = [text.partition("=") for text in given or ()]
    if wrong := [name for name, sign, _ in pairs if not sign or not name]:
        raise SpecError(*(Problem("--set", f"{name!r} is not NAME=VALUE") for name in wrong))
    return {name: value for name, _, value in pairs}
