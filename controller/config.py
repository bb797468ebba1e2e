"""Settings of the controller: flags, then environment (`BLACKSTART_CONTROLLER_LEASE_S`), then YAML file, then defaults.

Nested settings use two underscores: `BLACKSTART_CONTROLLER_BUDGET__TARGETS_MAX=5`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from protos.error import Problem, SpecError

PREFIX: Final = "BLACKSTART_CONTROLLER_"


class DomainSettings(BaseModel):
    """Blast radius by failure domain: in each value of a label, and over how many of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    targets_max: int | None = Field(None, ge=1)
    targets_fraction: float = Field(1.0, gt=0, le=1)
    domains_max: int | None = Field(None, ge=1)


class BudgetSettings(BaseModel):
    """Blast radius over all runs together; *domains* by label, such as `zone` or `rack`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    targets_max: int = Field(100, ge=1)
    targets_fraction: float = Field(0.5, gt=0, le=1)
    domains: dict[str, DomainSettings] = Field(default_factory=dict)


class FreezeSettings(BaseModel):
    """A window in which nothing is injected."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    start: AwareDatetime
    end: AwareDatetime
    why: str


def _api_server() -> str:
    """Where a pod finds the API server: what the kubelet put into its environment, which needs no resolver."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return "https://kubernetes.default.svc"
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


class KubernetesSettings(BaseModel):
    """The cluster: whose pods may join (`controller.rpc.pod`), and who of several controllers leads (`.leader`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    agents: str = Field(pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")  # namespace/service account of the agents' pods
    server: str = Field(default_factory=_api_server, pattern=r"^https://")
    account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # token and ca.crt of the controller's own
    lease: str = Field("", pattern=r"^([a-z0-9.-]+/[a-z0-9.-]+)?$")  # namespace/name; empty: the only controller leads
    lease_s: int = Field(15, ge=3, le=3600)  # how long the others wait for a leader that is gone
    alive: Path | None = None  # a file that is touched every five seconds, for the kubelet's probes


class Settings(BaseSettings):
    """See the module."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )
    state: Path
    listen: str = "127.0.0.1:7400"
    enrol_listen: str = "127.0.0.1:7401"
    metrics: str | None = None  # empty: none; left out: 127.0.0.1:7402, or any port where *listen* asks for any
    hosts: tuple[str, ...] = ()  # further names and addresses for the certificate; the first is what clients are told
    store_url: str = ""  # empty: SQLite in the state directory
    profile: Path | None = None  # YAML with objectives, for runs that bring none
    heartbeat_s: float = Field(2.0, gt=0)
    lease_s: float = Field(15.0, gt=0)
    driver_silence_s: float = Field(60.0, gt=0)
    run_s_max: float = Field(3600.0, gt=0)
    runs_together_max: int = Field(4, ge=1)
    shutdown_s: float = Field(20.0, gt=0)
    modules: tuple[str, ...] = ("blackstart.chaos",)
    environment: tuple[str, ...] = ("BLACKSTART_FARM*", "BLACKSTART_VAR_*")  # what runs may see of the controller's
    budget: BudgetSettings = BudgetSettings(targets_max=100, targets_fraction=0.5)
    freezes: tuple[FreezeSettings, ...] = ()
    kubernetes: KubernetesSettings | None = None  # none: agents join by one-time tokens alone
    log_level: str = "info"
    exit_on_stdin_eof: bool = False

    @property
    def metrics_listen(self) -> str:
        if self.metrics is not None:
            return self.metrics
        return "127.0.0.1:0" if self.listen.endswith(":0") else "127.0.0.1:7402"


def load(flags: dict[str, Any], file: Path | None) -> Settings:
    """The settings; SpecError names every one that is wrong."""
    content = read_yaml(file, "settings") if file is not None else {}

    class Layered(Settings):
        """The sources in their order."""

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
            del dotenv_settings, file_secret_settings
            return init_settings, env_settings, InitSettingsSource(settings_cls, content)

    try:
        settings = Layered(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SpecError(
            *(
                Problem(
                    f"{file or 'settings'}: {'.'.join(map(str, row['loc']))}", f"{row['msg']} (got {row['input']!r})"
                )
                for row in error.errors()
            )
        ) from error
    if settings.kubernetes is not None and settings.kubernetes.lease and os.environ.get(f"{PREFIX}STORE_URL") == "":
        remedy = "the Secret's key `url`: each of several controllers would make a SQLite file of its own"
        raise SpecError(Problem(f"{PREFIX}STORE_URL", "is empty", remedy))
    return settings


def read_yaml(file: Path, what: str) -> dict[str, Any]:
    """The mapping in *file*; SpecError if it cannot be read."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(Problem(str(file), f"{what} cannot be read: {error.strerror}")) from error
    except yaml.YAMLError as error:
        raise SpecError(Problem(str(file), f"is not YAML: {error}")) from error
    if not isinstance(content, dict):
        raise SpecError(Problem(str(file), f"{what} are not a mapping"))
    return content
