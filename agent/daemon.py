"""The agent's composition root: the one place that knows which parts there are.

`run` is entered after what an agent before this one left in force has been ended (`agent.__main__`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog

from agent import __version__, doctor, policy
from agent.audit import Audit
from agent.auditor import Auditor
from agent.certificate import Certificates
from agent.config import Config
from agent.effect import Effects
from agent.executor import Executor
from agent.faults.base import Effect
from agent.guardian import Guardian
from agent.journal import Journal
from agent.leftover import Leftovers
from agent.probes.engine import ProbeEngine
from agent.sensors.node import SERIES, NodeSensor
from agent.session import Session
from agent.spool import Spool
from agent.system import proc
from agent.system.notify import notify, watchdog_s
from agent.workloads import encode_workload
from agent.workloads.base import Workload
from agent.workloads.command import CommandWorkload
from agent.workloads.encode_workload import EncodeWorkload
from agent.workloads.kube_ramp import Limits, RampWorkload
from protos import blackstart_agent_pb2 as pb
from protos import credential
from protos.channel import CHANNEL_OPTIONS, channel_credentials
from protos.error import BlackstartError

_RENEW_EVERY_S = 600.0
_FOLDERS = (Path("/run/blackstart"), Path("/dev/shm/blackstart"))  # noqa: S108  places where faults may keep files


class Daemon:
    """One agent."""

    def __init__(self, config: Config, journal: Journal, guardian: Guardian, leftovers: Leftovers) -> None:
        self._config, self._guardian, self._leftovers = config, guardian, leftovers
        self._load_policy()
        self._controller: list[str] = []
        self._spool = Spool(config.state_path, int(config.spool_mb * 1e6))
        self._effects = Effects(
            journal=journal, guardian=guardian, policy=lambda: self._policy,
            controller=lambda: self._controller, notify=self._notify,
            before=self._look_before,
        )  # fmt: skip
        folders = [config.state_path, *_FOLDERS]
        self._certificates = Certificates(folders)
        self._auditor = Auditor(self._effects, folders, self._notify)
        self._probes = ProbeEngine(
            sink=self._sink,
            allowed_command=self._allows,
            ledgers=config.state_path / "ledgers",
            encodes=config.encode_path,
        )
        self._ramps = RampWorkload(config.state_path / "ramps", self._ramp_limits, self._workload_says)
        encodes = EncodeWorkload(config.encode_path, self._encode_limits, self._workload_says)
        encodes.forget()  # what an agent before this one left
        workloads: list[Workload] = [CommandWorkload(self._allows), self._ramps, encodes]
        self._executor = Executor(self._effects, self._probes, workloads, self._certificates)
        self._session = Session(
            link=self._link, hello=self._hello, spool=self._spool, executor=self._executor, effects=self._effects,
            audit=Audit(config.state_path),
        )  # fmt: skip
        self._log = structlog.get_logger("agent")

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then every effect is reverted before it returns."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._session.answer_unfinished()
        if self._leftovers.rows:
            self._notify("agent.recovered", "", {"effects": self._leftovers.rows})
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._session.run(),
                self._guardian.watch(),
                self._sense(),
                self._renew(),
                self._auditor.run(),
                _feed_watchdog(),
            )
        ]
        recoveries = [asyncio.create_task(work) for work in (self._adopt(), self._ramps.recover())]
        notify("READY=1", "STATUS=running")
        try:
            waiting = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {waiting}:
                task.result()  # a task of ours ended: that is a fault of ours, said loudly
        finally:
            notify("STOPPING=1")
            for task in recoveries:
                task.cancel()
            await asyncio.gather(self._effects.close(), self._executor.end_workloads())
            await asyncio.gather(*recoveries, return_exceptions=True)
            await self._probes.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._guardian.stop()
            self._spool.close()

    async def _adopt(self) -> None:
        """What an agent before this one left, and only a server can end."""
        if rows := await self._effects.adopt(self._leftovers.open):
            self._notify("agent.recovered", "", {"effects": rows})

    def _hello(self) -> pb.Hello:
        capabilities = [
            pb.Capability(
                family=row.family, kind=row.kind, available=not row.missing, missing=row.missing, undo=row.undo
            )
            for row in doctor.capabilities(self._policy)
        ]
        series = [pb.SeriesInfo(id=at, name=name, unit=unit) for at, (name, unit) in enumerate(SERIES)]
        return pb.Hello(
            agent_id=self._config.id, agent_version=__version__, boot_id=proc.boot_id(), labels=self._config.labels,
            capabilities=capabilities, series=series, monotonic_ns=time.monotonic_ns(), wall_ns=time.time_ns(),
        )  # fmt: skip

    async def _link(self) -> grpc.aio.Channel:
        held = credential.read_credential(self._config.certs_path)
        host = self._config.controller.rpartition(":")[0].strip("[]")
        self._controller = await _addresses(host)
        return grpc.aio.secure_channel(
            self._config.controller,
            channel_credentials(held.cert_pem, held.key_pem, held.ca_pem),
            options=CHANNEL_OPTIONS,
        )

    def _notify(self, kind: str, run_id: str, body: dict[str, Any]) -> None:
        self._session.event(kind, run_id, body)

    def _sink(
        self, run_id: str, name: str, first_index: int,
        due: Sequence[int], start: Sequence[int], done: Sequence[int], outcome: Sequence[int],
    ) -> None:  # fmt: skip
        batch = pb.ProbeBatch(
            run_id=run_id, probe=name, first_index=first_index, count=len(due),
            due_ns=array("q", due).tobytes(), start_ns=array("q", start).tobytes(),
            done_ns=array("q", done).tobytes(), outcome=bytes(outcome),
        )  # fmt: skip
        self._session.keep(pb.AgentMessage(telemetry=pb.Telemetry(probes=[batch])))

    async def _sense(self) -> None:
        sensor = NodeSensor()
        while True:
            await asyncio.sleep(self._config.sense_s)
            at = array("q", [time.monotonic_ns()]).tobytes()
            gauges = [
                pb.GaugeBatch(series=series, count=1, at_ns=at, value=array("d", [value]).tobytes())
                for series, value in enumerate(sensor.read())
            ]
            if self._session.connected:  # gauges of a cut are not worth the spool's room: outcomes are
                self._session.keep(pb.AgentMessage(telemetry=pb.Telemetry(gauges=gauges)))

    async def _renew(self) -> None:
        """Looks after the certificate now and then, in a process of its own; the next stream uses what is there."""
        arguments = [str(self._config.certs_path), self._config.id, self._config.controller]
        while True:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "agent.renewal", *arguments, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await child.communicate()
            if text := output.decode().strip():
                log = self._log.warning if child.returncode else self._log.info
                log("certificate", outcome=text)
            await asyncio.sleep(_RENEW_EVERY_S)

    def _allows(self, argv: Sequence[str]) -> bool:
        return self._policy.allows_command(argv)  # the policy of the moment: SIGHUP replaces it

    def _ramp_limits(self) -> Limits:
        now = self._policy
        return Limits(
            now.ramp_namespaces, now.ramp_pods_max, now.protected_namespaces, now.ramp_images, now.ramp_real_nodes,
            now.nodes,
        )  # fmt: skip

    def _encode_limits(self) -> encode_workload.Limits:
        return encode_workload.Limits(self._policy.encode_inputs, self._policy.encode_jobs_max)

    def _workload_says(self, run_id: str, text: str) -> None:
        self._notify("workload.progress", run_id, {"message": text})

    async def _look_before(self, run_id: str, effects: list[Effect]) -> None:
        await self._certificates.watch(run_id, effects)

    def _load_policy(self) -> None:
        loaded = policy.load(self._config.policy_path)
        loaded.own_paths = self._config.own_paths
        self._policy = loaded

    def _reload(self) -> None:
        try:
            self._load_policy()
            self._log.info("policy read again", faults=self._policy.faults)
        except BlackstartError as error:
            self._log.error("policy not read again: the one before stays in force", error=str(error))


async def _addresses(host: str) -> list[str]:
    """The addresses that *host* stands for, so that the policy can protect them; none when it cannot be resolved."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        with contextlib.suppress(socket.gaierror):
            rows = await asyncio.get_running_loop().getaddrinfo(host, None)
            return sorted({str(row[4][0]) for row in rows})
    return []


async def _feed_watchdog() -> None:
    period_s = watchdog_s()
    while True:
        if period_s:
            notify("WATCHDOG=1")
        await asyncio.sleep(period_s or 3600.0)


def run(config: Config, journal: Journal, guardian: Guardian, leftovers: Leftovers) -> None:
    """Runs one agent to its end."""

    async def main() -> None:
        await Daemon(config, journal, guardian, leftovers).run()

    asyncio.run(main())
