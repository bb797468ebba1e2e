"""Making an authority and signing with it, at the command line: `python -m controller.certs_cli`.

Invariant: whoever can read the authority's key can do this; no daemon is asked, and none need run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from controller.pki import Authority
from protos.credential import write_credential
from protos.error import BlackstartError

PATH = click.Path(path_type=Path)


@click.group("certs")
def certs() -> None:
    """Certificates: an authority, and what it signs."""


@certs.command()
@click.argument("directory", type=PATH)
@click.option("--name", default="admin", help="Name of the first administrator.")
def init(directory: Path, name: str) -> None:
    """Makes DIRECTORY/pki/ca, an authority, and DIRECTORY/admin, its first administrator's certificate.

    `blackstart-controller run --state DIRECTORY` finds both.
    """
    authority = Authority.create(directory / "pki" / "ca")
    _issue(authority, directory / "admin", name, "admin", ())
    click.echo(
        f"authority      {directory / 'pki' / 'ca'} (keep ca-key.pem where the controller runs, and nowhere else)"
    )
    click.echo(f"administrator  {directory / 'admin'} (BLACKSTART_CERTS)")


@certs.command()
@click.argument("name")
@click.option("--ca", type=PATH, required=True, help="Directory of the authority.")
@click.option("--output", "-o", type=PATH, required=True, help="Directory that gets ca.pem, cert.pem, key.pem.")
@click.option("--role", type=click.Choice(["viewer", "operator", "admin", "controller"]), default="operator")
@click.option("--host", "hosts", multiple=True, help="Name or address of a controller; may be repeated.")
def issue(name: str, ca: Path, output: Path, role: str, hosts: tuple[str, ...]) -> None:
    """Issues a certificate for NAME."""
    _issue(Authority.load(ca), output, name, role, hosts)
    click.echo(str(output))


def _issue(authority: Authority, directory: Path, name: str, role: str, hosts: tuple[str, ...]) -> None:
    certificate, key = authority.issue(name, role, hosts=hosts)
    assert key is not None
    write_credential(directory, certificate, key, authority.ca_pem)


def main() -> None:
    try:
        certs(standalone_mode=True)
    except BlackstartError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit)


if __name__ == "__main__":
    main()
