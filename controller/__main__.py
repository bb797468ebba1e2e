"""`blackstart-controller`: the daemon's command line."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
import uvloop

from protos.error import BlackstartError, Exit

PATH = click.Path(path_type=Path)


@click.group()
@click.version_option(package_name="blackstart")
def cli() -> None:
    """The controller of a Blackstart installation."""


@cli.command()
@click.option("--state", type=PATH, help="Directory of store and certificates; made at the first start.")
@click.option("--config", type=PATH, envvar="BLACKSTART_CONTROLLER_CONFIG", help="Settings, YAML.")
@click.option("--listen", metavar="HOST:PORT", help="For agents and operators. [127.0.0.1:7400]")
@click.option("--enrol-listen", metavar="HOST:PORT", help="For agents that join. [127.0.0.1:7401]")
@click.option("--metrics", metavar="HOST:PORT", help="For Prometheus, with a client certificate. [127.0.0.1:7402]")
@click.option("--host", "hosts", multiple=True, help="Further name for the certificate; the first is told to agents.")
@click.option(
    "--store-url", help="Database, such as postgresql+asyncpg://…; SQLite in the state directory if left out."
)
@click.option("--profile", type=PATH, help="Objectives for runs that bring none, YAML.")
@click.option("--heartbeat-s", type=float, help="Between two signs of life of an agent. [2]")
@click.option("--lease-s", type=float, help="Silence after which an agent is lost. [15]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--exit-on-stdin-eof", is_flag=True, default=None, help="End when stdin is closed.")
def run(config: Path | None, hosts: tuple[str, ...], **flags: Any) -> None:
    """Serves until SIGTERM. When it is ready, it writes one line of JSON to stdout."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # read once, at gRPC's import
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # nothing here forks: see controller.run.process
    from controller import config as configuration
    from controller import daemon, log

    settings = configuration.load(flags | {"hosts": hosts or None}, config)
    log.configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(daemon.run(settings))


def main() -> None:
    try:
        cli(standalone_mode=False)
    except BlackstartError as error:
        print(f"blackstart-controller: {error}", file=sys.stderr)
        sys.exit(int(error.exit if error.exit != Exit.INCONCLUSIVE else Exit.BAD_INPUT))
    except click.ClickException as error:
        error.show()
        sys.exit(int(Exit.BAD_INPUT))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


if __name__ == "__main__":
    main()
