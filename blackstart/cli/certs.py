"""`blackstart certs`: who may speak to whom.

An authority's key is the controller's affair: making one and signing with it happens in a process of the controller.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from blackstart.cli.connection import Flags, Json, connect
from blackstart.cli.output import print_json, print_table
from protos.error import Problem, SpecError

app = typer.Typer(no_args_is_help=True, help="Certificates: init, issue, join-token, show.")
Authority = Annotated[Path, typer.Option("--ca", metavar="DIR", help="Directory of the authority.")]


@app.command()
def init(
    directory: Annotated[
        Path, typer.Argument(help="State directory of a controller to come; gets pki/ca/ and admin/.")
    ],
    name: Annotated[str, typer.Option(help="Name of the first administrator.")] = "admin",
) -> None:
    """Make an authority and the certificate of its first administrator."""
    _controller("init", str(directory), "--name", name)


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="Whom the certificate names.")],
    ca: Authority,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Gets ca.pem, cert.pem, key.pem.")],
    role: Annotated[str, typer.Option(help="viewer, operator, admin or controller.")] = "operator",
    host: Annotated[list[str] | None, typer.Option(help="Name or address of a controller; may be repeated.")] = None,
) -> None:
    """Issue a certificate."""
    hosts = [part for one in host or [] for part in ("--host", one)]
    _controller("issue", name, "--ca", str(ca), "--output", str(output), "--role", role, *hosts)


@app.command("join-token")
def join_token(
    context: typer.Context,
    agent: Annotated[str, typer.Option(help="Only for an agent of this name.")] = "",
    valid_s: Annotated[float, typer.Option("--valid-s", min=1, help="Seconds until it expires.")] = 3600,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else stdout.")] = None,
) -> None:
    """A join file: lets one agent in, once."""
    import json

    with connect(context) as client:
        token = client.join_token(valid_s=valid_s, agent_id=agent)
    content = json.dumps(
        {
            "token": token.token,
            "address": token.address,
            "enrol_address": token.enrol_address,
            "ca_pem": token.ca_pem.decode(),
        },
        indent=2,
    )
    if output is None:
        print(content)
        return
    output.touch(mode=0o600)
    output.chmod(0o600)
    output.write_text(content + "\n", encoding="utf-8")
    print(output)


@app.command()
def show(
    context: typer.Context,
    directory: Annotated[Path | None, typer.Argument(help="Else the one in use.")] = None,
    json: Json = False,
) -> None:
    """Whom a certificate names, its role, and until when it is valid."""
    from datetime import UTC, datetime

    from blackstart.credential import identity
    from blackstart.settings import resolve

    flags = context.obj or Flags()
    path = directory or resolve(flags.controller or "unused:1", flags.certs).certs
    found = [(name, identity(path / name)) for name in ("cert.pem", "ca.pem") if (path / name).is_file()]
    if not found:
        raise SpecError(Problem(str(path), "holds no cert.pem and no ca.pem"))
    if json:
        print_json(
            {
                name: {"name": one.name, "role": one.role, "not_before": one.not_before, "not_after": one.not_after}
                for name, one in found
            }
        )
        return
    days = [(one.not_after - datetime.now(UTC)).total_seconds() / 86400 for _, one in found]
    print_table(
        ("file", "name", "role", "valid until", ""),
        [
            (str(path / name), one.name, one.role or "-", f"{one.not_after:%Y-%m-%d %H:%M} UTC", _left(left))
            for (name, one), left in zip(found, days, strict=True)
        ],
        "",
    )


def _left(days: float) -> str:
    return f"{days:.0f} days left" if days >= 0 else "expired"


def _controller(*arguments: str) -> None:
    """Runs the controller's own command, whose messages and exit code are ours."""
    done = subprocess.run([sys.executable, "-m", "controller.certs_cli", *arguments], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
