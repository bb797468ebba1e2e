"""What every command shares: its client, and the options that several take."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from blackstart.client import Client

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, for machines.")]
Variables = Annotated[
    list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A value of the experiment's configuration.")
]
Profile = Annotated[Path | None, typer.Option("--profile", metavar="FILE", help="Objectives to set figures beside.")]


@dataclass(frozen=True, slots=True)
class Flags:
    """The options before the command."""

    controller: str | None = None
    certs: Path | None = None


def connect(context: typer.Context) -> "Client":
    """A client for the controller that flags, environment or files name."""
    from blackstart.client import Client
    from blackstart.settings import resolve

    flags = context.obj or Flags()
    return Client(resolve(flags.controller, flags.certs))


def read_submission(file: Path, pairs: list[str] | None, profile: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The experiment in *file*, checked, and what is sent beside it: `source`, `variables`, `profile`."""
    from blackstart.structure import load_experiment

    experiment = load_experiment(file)
    return experiment, {
        "source": str(file), "variables": variables_from(pairs, experiment), "profile": profile_from(profile),
    }  # fmt: skip


@contextmanager
def placed(file: Path) -> Iterator[None]:
    """Problems that the controller found by path in *file* are told with their lines."""
    try:
        yield
    except SpecError as error:
        from dataclasses import replace

        from blackstart.document import load

        document, prefix = load(file), f"{file}: "
        raise SpecError(
            *(
                replace(p, where=document.where(p.where.removeprefix(prefix))) if p.where.startswith(prefix) else p
                for p in error.problems
            )
        ) from error


def variables_from(pairs: list[str] | None, experiment: dict[str, Any]) -> dict[str, str]:
    """The variables of `--var`, and of the environment for `type: env`.

    SpecError names every one that is no pair or that the experiment does not have.
    """
    known = experiment.get("configuration") or {}
    found, problems = _from_environment(known), []
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            problems.append(Problem(f"--var {pair}", "is no pair", "write --var NAME=VALUE"))
        elif name not in known:
            listed = ", ".join(known) or "none"
            problems.append(Problem(f"--var {pair}", f"there is no {name!r}", f"there are: {listed}"))
        else:
            found[name] = value
    if problems:
        raise SpecError(*problems)
    return found


def _from_environment(configuration: dict[str, Any]) -> dict[str, str]:
    """What `type: env` entries take from the environment here: the controller's runner has another one."""
    return {
        name: os.environ[entry["key"]]
        for name, entry in configuration.items()
        if isinstance(entry, dict) and entry.get("type") == "env" and entry.get("key") in os.environ
    }


def profile_from(path: Path | None) -> dict[str, Any] | None:
    """The profile in the file *path*."""
    if path is None:
        return None
    from blackstart.document import load_mapping

    document = load_mapping(path)
    content = document.content
    assert isinstance(content, dict)
    if not isinstance(content.get("objectives"), dict):
        raise SpecError(*document.problems, Problem(document.where("objectives"), "must be a mapping of objectives"))
    return content
