"""The first process of an agent's container: what it does when the agent ends, and when it is told to end itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.case import end, wait_until

SCRIPT = Path(__file__).parents[2] / "deploy/docker/keep-agent.sh"
AGENT = """#!/bin/sh
trap 'echo told >> "$LOG"; exit 7' TERM
echo "started $*" >> "$LOG"
[ "$1" = fails ] && exit 3
[ "$1" = settings ] && exit 2
while :; do sleep 0.05; done
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Any]:
    """Starts the script with a program in the agent's place; the log of that."""
    program, log = tmp_path / "blackstart-agent", tmp_path / "log"
    program.write_text(AGENT)
    program.chmod(0o755)
    log.touch()
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log)}
    made = []

    def start(how: str) -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(["sh", str(SCRIPT), how], env=environment, stderr=subprocess.PIPE, text=True)
        made.append(process)
        return process, log

    yield start
    for process in made:
        process.stderr.close()
        end(process)


def test_a_term_is_the_agents_whose_status_is_the_containers(keeper):
    process, log = keeper("runs")
    wait_until(lambda: "started" in log.read_text(), 5.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5.0) == 7
    assert log.read_text() == "started runs\ntold\n"


def test_bad_settings_end_it(keeper):
    process, log = keeper("settings")
    assert process.wait(5.0) == 2
    assert log.read_text() == "started settings\n"


def test_an_agent_that_dies_is_started_again(keeper):
    process, log = keeper("fails")
    wait_until(lambda: log.read_text().count("started") == 2, 5.0)
    assert "the agent has ended with status 3" in process.stderr.readline()


def test_a_term_in_the_pause_between_two_agents_ends_it(keeper):
    process, log = keeper("fails")
    assert "the next one starts in a second" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5.0) == 3
    assert log.read_text() == "started fails\n"


@pytest.mark.parametrize("wait_ms", range(0, 40, 4))
def test_a_term_at_the_start_is_heard_whenever_it_comes(keeper, wait_ms):
    process, log = keeper("runs")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.002 + wait_ms / 1000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5.0) in (7, 143, -signal.SIGTERM), log.read_text()
