"""The agent's settings: flags, then environment, then a YAML file. Paths are absolute once loaded.

Of the environment only what a pod can learn of itself by the downward API: `BLACKSTART_AGENT_ID`,
`BLACKSTART_AGENT_CONTROLLER`, `BLACKSTART_AGENT_SCRATCH`, and `BLACKSTART_AGENT_LABELS`, as `role=gpu,node=n1,zone=`:
a label without a value is left out, since the downward API gives an empty string where there is nothing to give.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from protos.error import Problem, SpecError

CONFIG_PATH = Path("/etc/blackstart/agent.yaml")
PREFIX: Final = "BLACKSTART_AGENT_"


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The configuration file, field by field."""

    controller: str = ""  # host:port
    id: str = msgspec.field(default_factory=socket.gethostname)
    labels: dict[str, str] = {}
    state: str = "/var/lib/blackstart-agent"
    certs: str = ""  # directory of ca.pem, cert.pem, key.pem; empty: STATE/certs
    policy: str = ""  # file; empty: every fault is refused
    scratch: str = ""  # where workloads put what they make, on a disk of its own if you like; empty: STATE
    spool_mb: float = 64.0
    sense_s: float = 5.0  # period of the node's own gauges
    log: str = "info"

    @property
    def state_path(self) -> Path:
        return Path(self.state).absolute()

    @property
    def certs_path(self) -> Path:
        return Path(self.certs).absolute() if self.certs else self.state_path / "certs"

    @property
    def policy_path(self) -> Path | None:
        return Path(self.policy).absolute() if self.policy else None

    @property
    def encode_path(self) -> Path:
        """Of the encode workload alone: what is there is removed."""
        if not self.scratch:
            return self.state_path / "encode"
        return Path(self.scratch).absolute() / f"blackstart-encode-{quote(self.id, safe='')}"

    @property
    def own_paths(self) -> list[str]:
        """What the agent cannot do without, its program included: no fault may stand on it."""
        package = Path(__file__).absolute().parent
        own = [self.state_path, self.certs_path, self.policy_path, package, package.parent / "protos", Path(sys.prefix)]
        return [str(path) for path in own if path is not None]


def load(path: Path | None, overrides: dict[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """The settings of *path* (or of the default place, if there is a file), then *environ*'s, then *overrides*.

    Labels of the environment and those of the file are put together; those of the flags stand in the place of both.
    """
    document: dict[str, Any] = {}
    path = path or (CONFIG_PATH if CONFIG_PATH.exists() else None)
    if path is not None:
        import yaml

        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SpecError(Problem(str(path), f"cannot read the settings: {error.strerror}")) from error
        except yaml.YAMLError as error:
            raise SpecError(Problem(str(path), f"not YAML: {error}")) from error
    try:
        given = {key: environ.get(f"{PREFIX}{key.upper()}", "") for key in ("id", "controller", "scratch")}
        given |= {"labels": document.get("labels", {}) | _labels(environ.get(f"{PREFIX}LABELS", ""))}
        merged = document | _said(given) | _said(overrides)
        config = msgspec.convert(merged, Config)
    except (msgspec.ValidationError, TypeError) as error:
        raise SpecError(Problem(str(path or "flags"), str(error))) from error
    if config.spool_mb <= 0 or config.sense_s <= 0:
        raise SpecError(Problem(str(path or "flags"), "spool_mb and sense_s must be above 0"))
    return config


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "", {})}


def _labels(text: str) -> dict[str, str]:
    """Of `key=value,key=value`; SpecError for what is not that."""
    rows = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if wrong := [key for key, sign, _value in rows if not key or not sign]:
        raise SpecError(Problem(f"{PREFIX}LABELS", f"{wrong[0]!r} is not key=value", "for example role=gpu,zone=a"))
    return {key: value for key, _sign, value in rows if value}
