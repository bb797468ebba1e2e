"""`blackstart up` and `blackstart gameday`: everything on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from protos.error import SpecError

State = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Where state is kept; default: ~/.local/state/blackstart.")
]


def up(
    state: State = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address; default: a free local port.")
    ] = None,
    farm: Annotated[bool, typer.Option(help="Start the small encode farm, too.")] = False,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Install into the cluster of KUBECONFIG instead, and return.")
    ] = False,
    overlay: Annotated[
        str, typer.Option(metavar="NAME", help="With --kubernetes: one of deploy/kubernetes/overlays, or a directory.")
    ] = "base",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --kubernetes: only have the API server check everything.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --kubernetes: overwrite ConfigMaps that were edited since.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait-s", min=0, help="With --kubernetes: how long to wait for it; 0: not at all.")
    ] = 300,
) -> None:
    """Start a controller and an agent here, in the foreground, ready for `blackstart run`."""
    if kubernetes:
        if listen or farm:
            raise SpecError("--listen and --farm are of an installation on this machine, and not with --kubernetes")
        from blackstart.install.apply import up as install
        from blackstart.settings import state_directory

        folder = (state or state_directory() / "kubernetes").absolute()
        raise typer.Exit(install(overlay=overlay, state=folder, dry_run=dry_run, wait_s=wait_s, replace=replace))
    if dry_run or replace or overlay != "base":
        raise SpecError("--dry-run, --replace and --overlay are for --kubernetes")
    from blackstart.local.stack import up as start
    from blackstart.settings import state_directory

    raise typer.Exit(start(state=state or state_directory(), address=listen, farm=farm))


def gameday(
    plan: Annotated[Path | None, typer.Argument(help="A gameday's plan; default: the quickstart.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the reports go.")] = Path("reports"),
    state: State = None,
    namespaces: Annotated[
        bool | None, typer.Option(help="Agents in network namespaces of their own; default: where that can be done.")
    ] = None,
) -> None:
    """Run a gameday from start to finish, on a farm of its own, and leave nothing behind but the reports."""
    from blackstart import plan as plans
    from blackstart.local.gameday import run_gameday

    file = plan or _quickstart()
    plans.load(file)
    raise typer.Exit(run_gameday(file, out=out, state=state, namespaces=namespaces))


def _quickstart() -> Path:
    import experiments

    return Path(next(iter(experiments.__path__))) / "gamedays" / "quickstart.yaml"
