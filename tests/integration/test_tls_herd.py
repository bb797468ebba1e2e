"""A fleet that connects at once: hundreds of agents' handshakes at the same time, and the controller lives."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from blackstart.client import Client
from blackstart.settings import Settings
from tests.chaos.case import end
from tests.integration.controller_rig import ControllerProcess

pytestmark = pytest.mark.alone
PROCESSES, EACH = 2, 250


def test_a_herd_of_agents_does_not_end_the_controller(tmp_path):
    """Seen before the certificate was handed to gRPC only when it had changed: SIGSEGV in the controller."""
    with (
        ControllerProcess(tmp_path / "state") as rig,
        Client(Settings(rig.ready["address"], rig.state / "admin")) as client,
    ):
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.stop_fleet",
            rig.ready["address"],
            str(rig.state / "pki" / "ca"),
        ]
        fleets = [
            subprocess.Popen([*command, str(at * EACH), str(EACH)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for at in range(PROCESSES)
        ]
        try:
            until = time.monotonic() + 60
            while sum(agent.connected for agent in client.agents()) < PROCESSES * EACH:
                assert rig.process.poll() is None, "the controller is gone"
                assert time.monotonic() < until, "not all agents connected"
                time.sleep(0.2)
        finally:
            end(*fleets)
