"""The composition root: which parts are used, and in which order they are opened and closed, only this module knows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from protos.channel import SERVER_OPTIONS, Presented, check_tls, rotating_server_credentials  # first: sets TLS up

import grpc.aio  # isort: skip
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controller import home, metrics, standby
from controller.admission import Admission, Budget, Domain, Freeze
from controller.audit import Audit
from controller.config import Settings, read_yaml
from controller.dispatch import Dispatch
from controller.fleet import Fleet
from controller.leftover import Leftovers
from controller.rpc.agent_link import AgentLink, Terms
from controller.rpc.auth import Gate
from controller.rpc.enrolment import Enrolment
from controller.rpc.operator import Addresses, Operator
from controller.rpc.pod import Pods
from controller.run.agent_event import AgentEvents
from controller.run.chronicle import Chronicle
from controller.run.intake import Intake
from controller.run.machine import Machine, Rules, Submission
from controller.run.reach import Reach
from controller.run.supervisor import Nursery
from controller.schedule import Schedule
from controller.stop import EmergencyStop
from controller.store.sql import SqlStore, sqlite_url
from controller.telemetry.ingest import Ingest
from protos import blackstart_agent_pb2_grpc as agent_rpc
from protos import blackstart_operator_pb2_grpc as operator_rpc
from protos.error import BlackstartError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.store.base import ScheduleRecord, Store

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
SERVICES: Final = ("blackstart.v1.Operator", "blackstart.v1.AgentLink")
RENEWAL_LOOK_S: Final = 3600.0


@dataclass(slots=True)
class Parts:
    """What was composed."""

    reach: Reach
    machine: Machine
    ingest: Ingest
    stop: EmergencyStop
    schedule: Schedule
    intake: Intake
    audit: Audit
    terms: Terms
    events: AgentEvents


async def run(settings: Settings) -> None:
    """Serves until SIGTERM, SIGINT, or the end of stdin where that is asked for. BlackstartError if it cannot start.

    Where a lease is named it stands by first, until it leads.
    """
    told, place = asyncio.Event(), settings.kubernetes
    async with AsyncExitStack() as stack:
        if place is not None and place.alive is not None:
            showing = asyncio.create_task(standby.show_alive(place.alive))
            stack.callback(showing.cancel)
        if place is None or not place.lease:
            await _serve(settings, told, standby.always)
            return
        _listen_to_signals(told, settings.exit_on_stdin_eof)
        await standby.while_leading(place, told, lambda leads: _serve(settings, told, leads))


async def _serve(settings: Settings, told: asyncio.Event, leads: Callable[[], bool]) -> None:
    main_host, main_port = home.split(settings.listen, "--listen")
    enrol_host, enrol_port = home.split(settings.enrol_listen, "--enrol-listen")
    hosts = sorted(
        {home.dialled(main_host, ()), home.dialled(enrol_host, ()), "localhost", "127.0.0.1", *settings.hosts}
    )
    state = home.open_home(settings.state, hosts)
    async with AsyncExitStack() as stack:
        store = SqlStore(settings.store_url or sqlite_url(settings.state / "store.sqlite"))
        if leads is standby.always:
            await store.open()
        elif not await standby.opened(store, told):
            return
        stack.push_async_callback(store.close)
        state.clear_runs()
        superseding = asyncio.create_task(standby.end_when_superseded(store))
        stack.callback(superseding.cancel)
        gate_main, gate_enrol = Gate(audit := Audit(store), leads), Gate(audit, leads, enrolment=True)
        main, bound = _server(state, gate_main, main_host, main_port, require_client=True)
        enrolment, enrol_bound = _server(state, gate_enrol, enrol_host, enrol_port, require_client=False)
        named = home.dialled(main_host, settings.hosts)
        addresses = Addresses(f"{named}:{bound}", f"{home.dialled(enrol_host, settings.hosts)}:{enrol_bound}")
        local = f"{home.dialled(main_host, ())}:{bound}"
        parts = await _compose(settings, state, store, audit, local)
        operator = Operator(
            parts.reach, parts.machine, parts.intake, parts.schedule, parts.stop, state.authority, addresses
        )
        await _register(main, parts, operator, store, state)
        pods = Pods(settings.kubernetes) if settings.kubernetes else None
        agent_rpc.add_EnrolmentServicer_to_server(Enrolment(store, state.authority, pods), enrolment)
        metrics_address = _open_metrics(stack, settings, state, parts)
        for server in (enrolment, main):
            await server.start()
            stack.push_async_callback(server.stop, 1.0)
        await asyncio.to_thread(check_tls, home.dialled(main_host, ()), bound)
        await parts.schedule.start()
        stack.push_async_callback(parts.schedule.close)
        await parts.machine.resume()
        watching = asyncio.create_task(_watch_over(settings, parts, state, hosts))
        stack.callback(watching.cancel)
        stack.push_async_callback(parts.machine.shut_down, settings.shutdown_s)
        _say_ready(addresses, metrics_address)
        if leads is standby.always:
            _listen_to_signals(told, settings.exit_on_stdin_eof)
        await told.wait()
        structlog.get_logger("controller").info("shutting down")


async def _compose(settings: Settings, state: home.Home, store: Store, audit: Audit, local: str) -> Parts:
    epoch = await store.lead()
    fleet = Fleet(boot_id=BOOT_ID.read_text().strip(), lease_s=settings.lease_s)
    fleet.remember(await store.agents())
    limits = settings.budget
    domains = {
        label: Domain(limit.targets_max, limit.targets_fraction, limit.domains_max)
        for label, limit in limits.domains.items()
    }
    budget = Budget(limits.targets_max, limits.targets_fraction, domains)
    admission = Admission(budget, [Freeze(f.start, f.end, f.why) for f in settings.freezes])
    leftovers = Leftovers(store)
    await leftovers.restore([member.id for member in fleet.members()])
    reach = Reach(store, fleet, Dispatch(fleet, epoch), admission, Chronicle(store), leftovers)
    rules = Rules(
        settings.runs_together_max, settings.driver_silence_s, settings.lease_s, settings.run_s_max, settings.modules
    )
    nursery = Nursery(state.runs, state.authority, local, settings.run_s_max, settings.environment)
    machine = Machine(reach, nursery, rules)
    profile = read_yaml(settings.profile, "profile") if settings.profile else {}
    events = AgentEvents(reach, audit)
    ingest = Ingest(store, reach.dispatch, events.on_event, reach.runs_of)
    stop = EmergencyStop(reach, machine)
    await stop.restore()
    log = structlog.get_logger("controller.schedule")

    async def fire(record: ScheduleRecord, fire_wall_ns: int) -> str:
        del fire_wall_ns
        what = Submission(
            record.experiment, record.source, record.variables, record.profile, f"schedule {record.name}", record.actor
        )
        return (await machine.submit(what)).id

    schedule = Schedule(store, fire, log.info)
    terms = Terms(epoch, settings.heartbeat_s, settings.lease_s)
    return Parts(reach, machine, ingest, stop, schedule, Intake(fleet, profile, settings.modules), audit, terms, events)


def _server(state: home.Home, gate: Gate, host: str, port: int, *, require_client: bool) -> tuple[grpc.aio.Server, int]:
    """A server with its port bound; SpecError if the address is taken."""
    server = grpc.aio.server(interceptors=[gate], options=[*SERVER_OPTIONS, ("grpc.max_concurrent_streams", 20_000)])

    def presented() -> Presented:
        held = state.credential()
        return Presented(held.cert_pem, held.key_pem, held.ca_pem)

    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_secure_port(address, rotating_server_credentials(presented, require_client))
    except RuntimeError as error:
        raise SpecError(_taken(address)) from error
    if not bound:
        raise SpecError(_taken(address))
    return server, bound


def _taken(address: str) -> str:
    return f"cannot listen on {address}: the port is in use, or the address is not of this machine; name another one"


async def _register(server: grpc.aio.Server, parts: Parts, operator: Operator, store: Store, state: home.Home) -> None:
    link = AgentLink(
        parts.terms, store, parts.reach.fleet, parts.reach.dispatch, parts.ingest, parts.reach.admission,
        lambda: state.authority, parts.events.on_hello,
    )  # fmt: skip
    agent_rpc.add_AgentLinkServicer_to_server(link, server)
    operator_rpc.add_OperatorServicer_to_server(operator, server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", *SERVICES):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)


def _open_metrics(stack: AsyncExitStack, settings: Settings, state: home.Home, parts: Parts) -> str:
    if not settings.metrics_listen:
        return ""
    host, port = home.split(settings.metrics_listen, "--metrics")
    figures = metrics.Figures(parts.reach, parts.machine, parts.ingest, parts.audit)
    opened = metrics.serve(figures, host, port, state.certs)
    stack.callback(opened.close)
    return opened.address


async def _watch_over(settings: Settings, parts: Parts, state: home.Home, hosts: list[str]) -> None:
    """What has to be looked at again and again: leases, and the controller's own certificate."""
    log = structlog.get_logger("controller")
    looked_s = time.monotonic()
    while True:
        await asyncio.sleep(min(1.0, settings.lease_s / 5))
        try:
            for member in await parts.reach.fleet.expire(time.monotonic_ns()):
                log.warning("agent lost: silent for longer than its lease", agent=member.id)
                await parts.reach.store.put_agent(member.record())
            parts.reach.expire_reservations()
            if time.monotonic() - looked_s > RENEWAL_LOOK_S:
                looked_s = time.monotonic()
                if state.renew_if_due(hosts):
                    log.info("the controller's certificate was renewed")
        except BlackstartError as error:
            log.error("housekeeping failed, tried again", error=str(error))  # noqa: TRY400 - its sentence is enough


def _say_ready(addresses: Addresses, metrics_address: str) -> None:
    document: dict[str, Any] = {
        "ready": True, "address": addresses.main, "enrol_address": addresses.enrolment,
        "metrics_address": metrics_address, "pid": os.getpid(),
    }  # fmt: skip
    print(json.dumps(document), flush=True)


def _listen_to_signals(told: asyncio.Event, exit_on_stdin_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    if exit_on_stdin_eof:

        def readable() -> None:
            if not os.read(sys.stdin.fileno(), 4096):
                loop.remove_reader(sys.stdin.fileno())
                told.set()

        loop.add_reader(sys.stdin.fileno(), readable)
