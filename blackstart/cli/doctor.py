"""`blackstart doctor`: what is missing between this terminal and a measured recovery."""

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from blackstart.cli.connection import Flags, Json
from blackstart.cli.output import print_json, print_table, working
from protos.error import BlackstartError, Exit, SpecError

if TYPE_CHECKING:
    from blackstart.client import Client
    from blackstart.settings import Settings
    from protos import blackstart_operator_pb2 as pb

EXPIRES_SOON_DAYS = 14


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. *exit*: the code that the command ends with because of it."""

    check: str
    state: str  # ok, look, bad
    says: str
    exit: Exit = Exit.HELD


def doctor(context: typer.Context, json: Json = False) -> None:
    """Check settings, certificate, controller, versions and agents. Changes nothing."""
    with working("looking"):
        findings = examine(context.obj or Flags())
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(("", "check", "finding"), [(f.state, f.check, f.says) for f in findings], "")
    raise typer.Exit(max((finding.exit for finding in findings), default=Exit.HELD))


def examine(flags: Flags) -> list[Finding]:
    """Findings in the order in which one depends on another; it ends where going on makes no sense."""
    from blackstart.client import Client
    from blackstart.settings import resolve

    try:
        settings = resolve(flags.controller, flags.certs)
    except SpecError as error:
        return [Finding("settings", "bad", str(error), error.exit)]
    findings = [Finding("settings", "ok", f"controller {settings.controller}, certificate in {settings.certs}")]
    try:
        with Client(settings) as client:
            findings.append(_certificate(settings))
            begun_s = time.monotonic()
            client.reach()
            took_ms = (time.monotonic() - begun_s) * 1e3
            findings.append(Finding("controller", "ok", f"answers after {took_ms:.0f} ms"))
            findings += _fleet(client)
    except SpecError as error:
        findings.append(Finding("certificate", "bad", str(error), error.exit))
    except BlackstartError as error:
        findings.append(Finding("controller", "bad", str(error), error.exit))
    return findings


def _certificate(settings: "Settings") -> Finding:
    from datetime import UTC, datetime

    from blackstart.credential import identity

    found = identity(settings.certs / "cert.pem")
    days = (found.not_after - datetime.now(UTC)).days
    says = f"{found.name}, role {found.role or 'none'}, valid until {found.not_after:%Y-%m-%d}"
    if days < EXPIRES_SOON_DAYS and found.role != "runner":
        return Finding("certificate", "look", f"{says}: renew it soon (`blackstart certs issue`)")
    return Finding("certificate", "ok", says)


def _fleet(client: "Client") -> list[Finding]:
    from importlib.metadata import version

    from blackstart.cli.fleet import left_at

    agents, ours = client.agents(), version("blackstart")
    away = sorted(agent.id for agent in agents if not agent.connected)
    other = sorted(f"{agent.id} ({agent.version})" for agent in agents if agent.version != ours)
    findings = [Finding("agents", "ok", f"{len(agents) - len(away)} of {len(agents)} connected")]
    if not agents:
        findings = [
            Finding("agents", "look", "none has joined: `blackstart certs join-token`, `blackstart-agent join`")
        ]
    if away:
        findings.append(Finding("agents", "look", f"not connected: {', '.join(away)}"))
    if other:
        findings.append(Finding("versions", "look", f"not {ours}: {', '.join(other)}"))
    for agent in agents:
        if left := left_at(agent):
            findings.append(Finding("stranded", "bad", "; ".join(left), Exit.STRANDED))
    return findings + _kinds(client.faults())


def _kinds(faults: "list[pb.FaultKind]") -> list[Finding]:
    """Kinds that every agent can inject, in one line; the others by the reason that stops them."""
    whole = [fault.kind for fault in faults if fault.agents_available == fault.agents_total]
    stopped: dict[tuple[str, ...], list[str]] = {}
    for fault in faults:
        if fault.missing:
            stopped.setdefault(tuple(fault.missing), []).append(fault.kind)
    findings = [Finding("faults", "ok" if whole else "look", f"on every agent: {', '.join(whole) or 'none'}")]
    for missing, kinds in stopped.items():
        by_reason: dict[str, list[str]] = {}
        for line in missing:
            agent, _, reason = line.partition(": ")
            by_reason.setdefault(reason, []).append(agent)
        why = "; ".join(f"{', '.join(agents)}: {reason}" for reason, agents in by_reason.items())
        findings.append(Finding("faults", "look", f"{', '.join(kinds)}: not on {why}"))
    return findings
