"""Figures for Prometheus, over TLS with a client certificate: no port of ours answers without one.

Invariant: a scrape reads and changes nothing; it runs on a thread of its own, over plain numbers.
"""

from __future__ import annotations

import ssl
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from protos.error import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from controller.audit import Audit
    from controller.run.machine import Machine
    from controller.run.reach import Reach
    from controller.telemetry.ingest import Ingest


@dataclass(frozen=True, slots=True)
class Figures(Collector):
    """What is exported."""

    reach: Reach
    machine: Machine
    ingest: Ingest
    audit: Audit

    def collect(self) -> Iterator[Any]:
        members = self.reach.fleet.members()
        connected = [member for member in members if member.connected]
        yield _gauge("agents_connected", "Agents with a stream.", len(connected))
        yield _gauge("agents_known", "Agents that ever connected.", len(members))
        yield _gauge("effects_in_force", "Effects, as agents last said.", sum(m.effects for m in connected))
        yield _gauge("reservations", "Effects that admission counts.", len(self.reach.admission.held))
        yield _gauge("emergency_stop", "1 while it is in force.", float(self.reach.admission.stop_reason is not None))
        yield from self._agents(connected)
        yield from self._left([member.id for member in members])
        yield from self._runs()
        orders = CounterMetricFamily("blackstart_orders", "Orders to agents.", labels=("kind", "outcome"))
        for (kind, outcome), number in sorted(self.reach.dispatch.counts.items()):
            orders.add_metric((kind, outcome), number)
        yield orders
        for name, text, number in (
            ("messages_ingested", "Spooled messages stored.", self.ingest.messages),
            ("messages_duplicate", "Messages that came again.", self.ingest.duplicates),
            ("messages_malformed", "Messages of which a part was dropped.", self.ingest.malformed),
            ("attempts_ingested", "Probe attempts stored.", self.ingest.attempts),
            ("audit_lost", "Audit lines that the store did not take.", self.audit.lost),
        ):
            yield CounterMetricFamily(f"blackstart_{name}", text, value=number)

    def _agents(self, connected: list[Any]) -> Iterator[Any]:
        error = GaugeMetricFamily("blackstart_clock_error_seconds", "Bound on the offset's error.", labels=("agent",))
        spooled = GaugeMetricFamily("blackstart_spooled", "Messages not yet acknowledged.", labels=("agent",))
        dropped = CounterMetricFamily("blackstart_dropped", "Messages that the spool dropped.", labels=("agent",))
        for member in connected:
            spooled.add_metric((member.id,), member.spooled)
            dropped.add_metric((member.id,), member.dropped)
            if (offset := member.offset()) is not None:
                error.add_metric((member.id,), offset.error_ns / 1e9)
        yield from (error, spooled, dropped)

    def _left(self, agents: list[str]) -> Iterator[Any]:
        """Of agents that are away, too: a human may be needed there all the more."""
        stranded = GaugeMetricFamily(
            "blackstart_effects_stranded", "Effects that could not be reverted so far.", labels=("agent",)
        )
        found = GaugeMetricFamily("blackstart_residue", "Traces that the agent's own audit found.", labels=("agent",))
        for agent in agents:
            stranded.add_metric((agent,), len(self.reach.leftovers.stranded(agent)))
            found.add_metric((agent,), len(self.reach.leftovers.found(agent)))
        yield from (stranded, found)

    def _runs(self) -> Iterator[Any]:
        open_runs = GaugeMetricFamily("blackstart_runs_open", "Runs not ended.", labels=("state",))
        for state, number in sorted(Counter(run.record.state for run in self.machine.active).items()):
            open_runs.add_metric((state,), number)
        ended = CounterMetricFamily("blackstart_runs_ended", "Runs ended.", labels=("outcome", "verdict"))
        for labels, number in sorted(self.machine.ended.items()):
            ended.add_metric(labels, number)
        stranded = CounterMetricFamily(
            "blackstart_runs_stranded", "Runs that left something.", value=self.machine.stranded
        )
        yield from (open_runs, ended, stranded)


@dataclass(frozen=True, slots=True)
class MetricsPort:
    """The open port."""

    server: Any
    thread: Any
    address: str

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


def serve(figures: Figures, host: str, port: int, certs: Path) -> MetricsPort:
    """Opens the port; *certs* holds cert.pem, key.pem and ca.pem. SpecError if the address is taken."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    try:
        server, thread = start_http_server(
            port, host, registry, certfile=str(certs / "cert.pem"), keyfile=str(certs / "key.pem"),
            client_cafile=str(certs / "ca.pem"), client_auth_required=True,
        )  # fmt: skip
    except OSError as error:
        raise SpecError(f"cannot listen on {host}:{port} for metrics: {error.strerror}; see --metrics") from error
    socket = server.socket
    assert isinstance(socket, ssl.SSLSocket)
    socket.context.minimum_version = ssl.TLSVersion.TLSv1_3
    socket.do_handshake_on_connect = False  # type: ignore[attr-defined]  # on the request's own thread: a silent client holds up no other
    return MetricsPort(server, thread, f"{host}:{server.server_port}")


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"blackstart_{name}", text, value=value)
