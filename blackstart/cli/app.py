"""The tree of commands, and the options that stand before all of them."""

from pathlib import Path
from typing import Annotated

import typer

from blackstart.cli import (
    approvals,
    certs,
    doctor,
    encode,
    faults,
    fleet,
    local,
    run,
    runs,
    schedule,
    services,
    testcluster,
    validate,
)
from blackstart.cli.connection import Flags

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Chaos engineering and recovery measurement: every fault ends, every figure is earned.",
    epilog="Exit codes: 0 held, 1 deviated, 2 bad input, 3 inconclusive or aborted, 4 stranded, 5 unreachable.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"blackstart {version('blackstart')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    controller: Annotated[
        str | None, typer.Option("--controller", metavar="HOST:PORT", help="Else BLACKSTART_CONTROLLER.")
    ] = None,
    certs_: Annotated[
        Path | None, typer.Option("--certs", metavar="DIR", help="ca.pem, cert.pem, key.pem. Else BLACKSTART_CERTS.")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Where the controller is and who we are, for every command."""
    context.obj = Flags(controller, certs_)


app.command("up")(local.up)
app.command("gameday")(local.gameday)
app.add_typer(services.app, name="services")
app.add_typer(testcluster.app, name="testcluster")
app.command("run")(run.run)
app.add_typer(runs.app, name="runs")
app.add_typer(encode.app, name="encode")
app.command("approve")(approvals.approve)
app.add_typer(approvals.app, name="approvals")
app.add_typer(fleet.agents, name="agents")
app.add_typer(faults.app, name="faults")
app.command("stop")(fleet.stop)
app.add_typer(schedule.app, name="schedule")
app.command("validate")(validate.validate)
app.add_typer(certs.app, name="certs")
app.command("audit")(fleet.audit)
app.command("doctor")(doctor.doctor)
