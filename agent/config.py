"""The agent's settings: a YAML file, overridden by flags. Paths are absolute once loaded."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from protos.error import Problem, SpecError

CONFIG_PATH = Path("/etc/blackstart/agent.yaml")


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The configuration file, field by field."""

    controller: str = ""  # host:port
    id: str = msgspec.field(default_factory=socket.gethostname)
    labels: dict[str, str] = {}
    state: str = "/var/lib/blackstart-agent"
    certs: str = ""  # directory of ca.pem, cert.pem, key.pem; empty: STATE/certs
    policy: str = ""  # file; empty: every fault is refused
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
    def own_paths(self) -> list[str]:
        """What the agent cannot do without, its program included: no fault may stand on it."""
        package = Path(__file__).absolute().parent
        own = [self.state_path, self.certs_path, self.policy_path, package, package.parent / "protos", Path(sys.prefix)]
        return [str(path) for path in own if path is not None]


def load(path: Path | None, overrides: dict[str, Any]) -> Config:
    """The settings of *path* (or of the default place, if there is a file) with *overrides* laid over them."""
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
        merged = document | {key: value for key, value in overrides.items() if value not in (None, "", {})}
        config = msgspec.convert(merged, Config)
    except (msgspec.ValidationError, TypeError) as error:
        raise SpecError(Problem(str(path or "flags"), str(error))) from error
    if config.spool_mb <= 0 or config.sense_s <= 0:
        raise SpecError(Problem(str(path or "flags"), "spool_mb and sense_s must be above 0"))
    return config
