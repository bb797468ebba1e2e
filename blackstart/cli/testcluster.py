"""`blackstart testcluster`: a real Kubernetes control plane on this machine, to try things on."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A Kubernetes control plane on loopback, built from source, for tests.")
State = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Where its files are; default: below ~/.local/state.")
]


@app.command()
def up(
    state: State = None,
    nodes: Annotated[int, typer.Option(min=0, max=5000, help="Nodes played by KWOK: their pods run nothing.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it serves; end it by `down`.")] = False,
) -> None:
    """Start it, after building it where that was not done before (Go; minutes)."""
    from blackstart.local.cluster import run

    raise typer.Exit((run.detach if detach else run.up)(_state(state), nodes))


@app.command()
def build() -> None:
    """Build what it needs and is not there yet (Go; minutes the first time)."""
    from blackstart.local.cluster import build as sources

    for name, path in sources.programs().items():
        print(f"{name}: {path}")
    print(f"helm: {sources.helm().build() / 'helm'}")


@app.command()
def down(state: State = None) -> None:
    """End the one that `up --detach` started."""
    from blackstart.local.cluster import run

    raise typer.Exit(run.down(_state(state)))


def _state(state: Path | None) -> Path:
    from blackstart.settings import state_directory

    return state or state_directory() / "testcluster"
