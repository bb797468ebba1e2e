"""What this node can do, and what is missing for the rest."""

from __future__ import annotations

import fnmatch
import time
from pathlib import Path
from typing import Any, NamedTuple

from agent.config import Config
from agent.faults.base import Fault
from agent.faults.registry import all_faults
from agent.policy import Policy
from agent.probes.registry import capabilities as probe_capabilities
from agent.system import kube_access
from agent.workloads.command import CommandWorkload
from agent.workloads.encode_workload import EncodeWorkload
from agent.workloads.kube_ramp import RampWorkload
from protos import credential
from protos.error import BlackstartError


class Row(NamedTuple):
    """One fault, probe or workload; *missing* is empty where it can be done."""

    family: str
    kind: str
    undo: str
    missing: str


def capabilities(policy: Policy) -> list[Row]:
    """Every fault, probe and workload, with what the node and its policy lack for it."""
    rows = []
    for kind, fault in sorted(all_faults().items()):
        opted = any(fnmatch.fnmatchcase(kind, pattern) for pattern in policy.faults)
        lacks = [_lacks(fault), "" if opted else "the policy's opt-in"]
        rows.append(Row("fault", kind, str(fault.undo), ", ".join(filter(None, lacks))))
    for kind, lack in probe_capabilities(policy.commands):
        rows.append(Row("probe", kind, "", lack))
    rows.append(Row("workload", CommandWorkload.kind, "", "" if policy.commands else "a command in the policy"))
    lacks = [kube_access.missing(), "" if policy.ramp_namespaces else "a namespace in the policy's ramp_namespaces"]
    rows.append(Row("workload", EncodeWorkload.kind, "", EncodeWorkload.missing()))
    rows.append(Row("workload", RampWorkload.kind, "", ", ".join(filter(None, lacks))))
    return rows


def _lacks(fault: Fault[Any]) -> str:
    """What the fault says; where it cannot even look, that: it must not keep the agent from what it can do."""
    try:
        return fault.missing()
    except OSError as error:
        return f"a look at the node ({error.filename or 'this node'}: {error.strerror or error})"


def installation(config: Config) -> list[tuple[str, str]]:
    """Checks of the agent's own set-up: (what, problem), the problem empty where all is well."""
    return [
        ("controller", "" if config.controller else "no address: set `controller` in the settings"),
        ("policy", "" if config.policy_path else "no policy file: every fault is refused"),
        ("state", _writable(config.state_path)),
        ("certificate", _certificate(config.certs_path)),
    ]


def _writable(path: Path) -> str:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def _certificate(path: Path) -> str:
    try:
        held = credential.load_credential(path)
    except BlackstartError as error:
        return str(error)
    return "renewal is due" if credential.renewal_due(held.cert_pem, time.time()) else ""
