"""Where the controller is and who we are, for every client: flags, then environment, then files.

Invariant: each value is taken from the first source that names it, and the sources are named when none does.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENV_CONTROLLER: Final = "BLACKSTART_CONTROLLER"
ENV_CERTS: Final = "BLACKSTART_CERTS"
ENV_RUN: Final = "BLACKSTART_RUN"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client needs: the controller's address, the directory of its certificate, the run that it belongs to."""

    controller: str  # host:port
    certs: Path  # holds ca.pem, cert.pem, key.pem
    run: str = ""  # set for what runs inside a run


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where `blackstart up` keeps its state unless it is told otherwise."""
    return _base(environ, "XDG_STATE_HOME", ".local/state") / "blackstart"


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The operator's own settings: `controller` and `certs`."""
    return _base(environ, "XDG_CONFIG_HOME", ".config") / "blackstart" / "client.yaml"


def resolve(
    controller: str | None = None, certs: Path | str | None = None, *, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Settings from the arguments, else the environment, else `client.yaml`, else what `blackstart up` left.

    Raises:
        SpecError: no source names a value, or a file or an address cannot be understood.
    """
    wanted = {"controller": controller, "certs": str(certs) if certs else None}
    found: dict[str, str] = {key: value for key, value in wanted.items() if value}
    for source in _sources(environ):
        found = source | found
        if len(found) == len(wanted):
            break
    missing = [key for key in wanted if key not in found]
    if missing:
        raise SpecError(
            Problem(
                "settings",
                f"no {' and no '.join(missing)} given",
                f"pass --controller and --certs, set {ENV_CONTROLLER} and {ENV_CERTS}, write {config_file(environ)}, "
                "or start a controller here with `blackstart up`",
            )
        )
    return Settings(_address(found["controller"]), Path(found["certs"]).expanduser(), environ.get(ENV_RUN, ""))


def _sources(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Each further source, read only when those before did not say all."""
    named = {"controller": environ.get(ENV_CONTROLLER), "certs": environ.get(ENV_CERTS)}
    yield {key: value for key, value in named.items() if value}
    yield _read(config_file(environ))
    yield _read(state_directory(environ) / "client.json")


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SpecError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    document = _parse(path, text)
    unknown = set(document) - {"controller", "certs"}
    if unknown:
        raise SpecError(
            Problem(str(path), f"unknown: {', '.join(sorted(unknown))}", "it may name controller and certs")
        )
    return {key: str(value) for key, value in document.items() if value}


def _parse(path: Path, text: str) -> dict[str, Any]:
    if path.suffix == ".json":
        try:
            document = json.loads(text)
        except ValueError as error:
            raise SpecError(Problem(str(path), f"is not JSON: {error}", "delete it and run `blackstart up`")) from error
    else:
        import yaml

        try:
            document = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise SpecError(Problem(str(path), f"is not YAML: {error}")) from error
    if not isinstance(document, dict):
        raise SpecError(Problem(str(path), "must be a mapping with controller and certs"))
    return document


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise SpecError(Problem("controller", f"{text!r} is no address", "write host:port, for example 10.0.0.5:7443"))
    return text


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    named = environ.get(variable)
    return Path(named) if named else Path(environ.get("HOME") or Path.home()) / below_home
