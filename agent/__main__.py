"""The command `blackstart-agent`.

`run` first ends what a killed agent left in force, before anything slow is imported: between the restart and the last
revert stand about 0.2 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from agent import __version__, config
from protos.error import BlackstartError, RefusedError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="blackstart-agent")
def cli() -> None:
    """Blackstart's node daemon: injects faults that always end, and measures recovery where it happens."""


def _labels(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    rows = [value.partition("=") for value in values]
    if any(not key or not sign for key, sign, _value in rows):
        raise click.BadParameter("labels are given as key=value")
    return {key: value for key, _sign, value in rows}


_SETTINGS = [
    click.option("--config", "file", type=click.Path(path_type=Path), help="Settings file (YAML)."),
    click.option("--controller", help="Controller's address, host:port."),
    click.option("--id", "id_", help="Name of this agent; the host's name by default."),
    click.option("--label", "labels", multiple=True, callback=_labels, help="key=value; may be repeated."),
    click.option("--state", help="Directory of journal and spool."),
    click.option("--certs", help="Directory of ca.pem, cert.pem, key.pem."),
    click.option("--policy", help="Policy file (YAML). Without one every fault is refused."),
]


def _with_settings(function: Any) -> Any:
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


def _load(options: dict[str, Any]) -> config.Config:
    file = options.pop("file", None)
    options["id"] = options.pop("id_", None)
    return config.load(file, options)


@cli.command()
@_with_settings
def run(**options: Any) -> None:
    """Runs the agent in the foreground until SIGTERM."""
    settings = _load(options)
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # structlog would load it for colours: 5 MB
    with _only_one(settings.state_path):
        from agent.guardian import Guardian
        from agent.journal import Journal
        from agent.leftover import begin

        journal = Journal(settings.state_path)
        leftovers = asyncio.run(begin(journal))
        journal.compact()
        guardian = Guardian(settings.state_path)
        guardian.start()
        if not settings.controller:
            raise RefusedError("no controller: give --controller host:port or set it in the settings")
        from agent import daemon, log

        log.configure(settings.log, settings.id)
        daemon.run(settings, journal, guardian, leftovers)


@cli.command()
@click.argument("join_file", type=click.Path(path_type=Path))
@click.option("--if-needed", is_flag=True, help="Do nothing where there is a valid certificate of this controller.")
@_with_settings
def enrol(join_file: Path, *, if_needed: bool, **options: Any) -> None:
    """Joins a controller with the one-time JOIN_FILE that `blackstart certs join-token` wrote."""
    settings = _load(options)
    from agent import enrolment

    if if_needed and enrolment.joined(join_file, settings.id, settings.certs_path):
        click.echo(f"agent {settings.id} has a valid certificate in {settings.certs_path}")
        return
    address = enrolment.enrol(join_file, settings.id, settings.certs_path)
    click.echo(f"agent {settings.id} has joined {address}; certificate in {settings.certs_path}")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--clean", is_flag=True, help="End what a dead agent left in force; touches only what Blackstart owns.")
@_with_settings
def doctor(*, as_json: bool, clean: bool, **options: Any) -> None:
    """Says what this node can do, and for the rest what is missing."""
    settings = _load(options)
    from agent import doctor as checks
    from agent import policy

    cleaned = _clean(settings.state_path) if clean else []
    rows = checks.capabilities(policy.load(settings.policy_path))
    problems = checks.installation(settings)
    if as_json:
        document = {
            "capabilities": [row._asdict() for row in rows],
            "installation": [{"what": what, "problem": problem} for what, problem in problems],
            "cleaned": cleaned,
        }
        click.echo(json.dumps(document, indent=2))
        return
    for row in rows:
        can = click.style("yes", fg="green") if not row.missing else click.style("no ", fg="yellow")
        undo = f"ends by: {row.undo}" if row.undo else ""
        lacks = f"not available: {row.missing}" if row.missing else ""
        click.echo(f"{can}  {row.family:8} {row.kind:28} {undo:22} {lacks}".rstrip())
    for what, problem in problems:
        sign = click.style("no ", fg="yellow") if problem else click.style("yes", fg="green")
        click.echo(f"{sign}  {what:8} {problem or 'ready'}")
    for ended in cleaned:
        left = f"; LEFT: {'; '.join(ended['residue'])}; by hand: {ended['remedy']}" if ended["residue"] else ""
        click.echo(f"ended: {ended['description']}{left}")


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", required=True, help="How `time.clock_skew` names the program.")
@click.option("--folder", default="", help="Directory of the offset file; /run/blackstart/clock for root.")
@click.option("--library", default="", help="Path of libfaketime; found by itself otherwise.")
@click.option("--monotonic", is_flag=True, help="Skew the monotonic clock too.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def wrap(*, name: str, folder: str, library: str, monotonic: bool, command: tuple[str, ...]) -> None:
    """Runs COMMAND with a clock that a fault can skew later; until then it sees the node's own."""
    from agent import wrap as wrapper

    wrapper.run(name, command, folder=folder, library=library, monotonic=monotonic)


def _clean(state: Path) -> list[dict[str, Any]]:
    from agent.journal import Journal
    from agent.leftover import close_leftovers

    with _only_one(state):
        return asyncio.run(close_leftovers(Journal(state), by="doctor"))


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """Holds the state directory for this process; RefusedError when another agent has it."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(state / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RefusedError(f"state directory {state}: {error.strerror}: name another by --state") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode().strip()
        os.close(descriptor)
        raise RefusedError(f"another agent (pid {holder}) uses {state}: stop it or name another by --state") from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def main() -> NoReturn:
    """Entry point: translates Blackstart's errors into one message and an exit code."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BlackstartError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(int(error.exit))
    except KeyboardInterrupt:
        sys.exit(3)
    sys.exit(0)


if __name__ == "__main__":
    main()
