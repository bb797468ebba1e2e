"""`blackstart gameday`: a plan, from an empty machine to a report, and nothing left behind but the report.

As root with nftables the farm's nodes are network namespaces of this process, so that the network can be cut; otherwise
all is on loopback, and what needs more is reported as not tested.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from rich.console import Console
from rich.text import Text

from blackstart import plan as plans
from blackstart.cli.live import Followed, exit_of
from blackstart.client import Client
from blackstart.local import namespace
from blackstart.local.stack import Stack, farm_variables, fetch_clip, free_ports
from protos import blackstart_operator_pb2 as pb
from protos.error import BlackstartError, Exit, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PORT: Final = 8600  # of the farm inside the namespaces
_WHENS: Final[tuple[plans.When, ...]] = ("stranded", "failed", "deviated", "inconclusive")
_FORMATS: Final = {"html": "report.html", "json": "report.json", "junit": "junit.xml"}


@dataclass
class Gameday:
    """One gameday under way."""

    plan: plans.Plan
    out: Path
    console: Console
    have: dict[str, str]  # need -> what is missing; empty: there
    runs: list[pb.Run] = field(default_factory=list)
    not_tested: list[pb.NotTested] = field(default_factory=list)
    stopped: str = ""

    def run(self, client: Client) -> None:
        """Every group of the plan in turn, until a rule or Ctrl-C ends it."""
        profile = yaml.safe_load(self.plan.profile.read_text(encoding="utf-8")) if self.plan.profile else {}
        for group in self.plan.sequence:
            steps = [step for step in group if self._can(step)]
            submitted = [self._submit(client, step, profile) for step in steps]
            for run in filter(None, submitted):
                self._follow(client, run)
            if self.stopped:
                return

    def _can(self, step: plans.Step) -> bool:
        missing = "; ".join(dict.fromkeys(self.have[need] for need in step.needs if self.have.get(need)))
        if missing:
            self.not_tested.append(pb.NotTested(title=step.title, source=step.experiment.name, missing=missing))
            self.console.print(Text.assemble(("not tested  ", "yellow"), f"{step.title}: {missing}"), soft_wrap=True)
        return not missing

    def _submit(self, client: Client, step: plans.Step, profile: dict[str, Any]) -> pb.Run | None:
        """The run; None where the controller would not take it, which ends the gameday after what is under way."""
        self.console.print(Text(f"\n{step.title}", style="bold"), soft_wrap=True)
        experiment = yaml.safe_load(step.experiment.read_text(encoding="utf-8"))
        try:
            return client.submit(experiment, source=step.experiment.name, variables=step.variables, profile=profile)
        except BlackstartError as error:
            self.not_tested.append(pb.NotTested(title=step.title, source=step.experiment.name, missing=str(error)))
            self.stopped = f"stopped: {step.title!r} could not be submitted: {error}"
            return None

    def _follow(self, client: Client, run: pb.Run) -> None:
        ended, aborted = Followed(client, run.id).watch_or_abort()
        self.runs.append(ended)
        if aborted:
            self.stopped = "interrupted: what was in force has been reverted"
            return
        for when in _WHENS:
            if when in ("stranded" if ended.stranded else "", ended.outcome, ended.verdict):
                rule = self.plan.stops_after(when)
                if rule is not None:
                    self.stopped = f"stopped after {ended.title!r} was {when}: {rule.why}"
                    return

    def report(self, client: Client) -> dict[str, Path]:
        """Writes the reports and shows the table; the files by format."""
        from blackstart.cli import table

        self.out.mkdir(parents=True, exist_ok=True)
        written, ids = {}, [run.id for run in self.runs]
        for form, name in _FORMATS.items():
            _, content = client.report(ids, form, self.plan.title, not_tested=self.not_tested)
            path = self.out / name
            path.write_bytes(content)
            written[form] = path
            if form == "json":
                self.console.print()
                table.show(content, self.console)
        return written

    def exit(self) -> Exit:
        """The worst of the runs; what was cut short or never run proves nothing."""
        codes = [exit_of(run) for run in self.runs]
        for worst in (Exit.STRANDED, Exit.DEVIATED, Exit.INCONCLUSIVE):
            if worst in codes:
                return worst
        return Exit.INCONCLUSIVE if self.stopped or not codes else Exit.HELD


def run_gameday(plan: Path, *, out: Path, state: Path | None, namespaces: bool | None) -> int:
    """See the module; the exit code of the worst run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit it as ignored
    console, begun_s = Console(), time.monotonic()
    loaded = plans.load(plan)
    lacks = _no_namespaces()
    if namespaces and lacks:
        raise RefusedError(f"--namespaces: {lacks}")
    use = not lacks if namespaces is None else namespaces
    if use:
        console.print("fetching the clip")  # no spinner: its thread would stay in the old network
        fetch_clip()
        namespace.enter_switch()
    lacks = lacks or ("" if use else "--no-namespaces was given")
    needed = ("root", "nftables", "namespaces")
    have = dict.fromkeys(needed, lacks) | {
        need: f"{need} is not part of a local gameday" for need in ("gpu", "docker", "kubernetes")
    }
    day = Gameday(loaded, out, console, have)
    console.print(Text.assemble((loaded.title, "bold"), f"\n{loaded.description}"), soft_wrap=True)
    with ExitStack() as held:
        folder = state or Path(held.enter_context(_temporary()))
        client = held.enter_context(_started(folder, console, use=use))
        try:
            day.run(client)
        except KeyboardInterrupt:
            day.stopped = "interrupted"
        written = day.report(client) if day.runs or day.not_tested else {}
    if day.stopped:
        console.print(Text(day.stopped, style="yellow"), soft_wrap=True)
    for form, path in written.items():
        console.print(f"{form:6} {path}", soft_wrap=True)
    console.print(f"{time.monotonic() - begun_s:.0f} s; every process, rule and temporary file is gone")
    return int(day.exit())


def _no_namespaces() -> str:
    """What is missing for nodes in namespaces of their own; empty if they can be had."""
    lacks = namespace.available()
    if not lacks and shutil.which("nft") is None:
        lacks = "needs nftables: install nftables"
    return lacks


@contextmanager
def _temporary() -> Iterator[str]:
    """A state directory that is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="blackstart-gameday-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(folder: Path, console: Console, *, use: bool) -> Iterator[Client]:
    """The whole stack, and a client of it."""
    with ExitStack() as held:
        status = held.enter_context(console.status("starting"))
        try:
            stack = _in_namespaces(folder, held, status) if use else _on_loopback(folder, held, status)
        except KeyboardInterrupt as error:
            raise BlackstartError("interrupted while starting; nothing was injected") from error
        status.stop()
        where = "three nodes in network namespaces" if use else "two agents on loopback"
        console.print(f"controller, agents and farm are up: {where}")
        yield held.enter_context(Client(stack.settings))


def _on_loopback(folder: Path, held: ExitStack, status: Any) -> Stack:
    ports = free_ports(3)
    stack = held.enter_context(Stack(folder, farm_variables(folder, "127.0.0.1", "127.0.0.1", ports)))
    status.update("starting the farm: two encode workers and an origin")
    farm = stack.farm("127.0.0.1", ports, "workers,origin")
    stack.controller("127.0.0.1:0")
    status.update("starting the agents")
    for role in ("encode", "edge"):
        stack.agent(role, {"role": role, "site": "local"})
    stack.await_agents(2)
    status.update("waiting for the farm's first segments")
    stack.await_farm(farm)
    return stack


def _in_namespaces(folder: Path, held: ExitStack, status: Any) -> Stack:
    bed = held.enter_context(namespace.Testbed(["encode", "viewer", "edge"]))
    encode, viewer, edge = (bed.hosts[name] for name in ("encode", "viewer", "edge"))
    variables = farm_variables(folder, encode.address, edge.address, _PORT) | {
        "BLACKSTART_FARM_PEER_1": encode.address, "BLACKSTART_FARM_PEER_2": viewer.address,
    }  # fmt: skip
    stack = held.enter_context(Stack(folder, variables))
    status.update("starting the farm: two encode workers on one node, the origin on another")
    workers = stack.farm(encode.address, _PORT, "workers", encode)
    origin = stack.farm(edge.address, _PORT, "origin", edge)
    stack.controller("10.77.0.254:0")
    status.update("starting the agents")
    for name, host in bed.hosts.items():
        stack.agent(name, {"role": name}, host)
    stack.await_agents(3)
    status.update("waiting for the farm's first segments")
    stack.await_farm(workers, "workers")
    stack.await_farm(origin, "origin")
    return stack
