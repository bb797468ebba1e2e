"""What is left of a testbed, however its owner ends: nothing."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from agent.system import proc
from blackstart.local.namespace import Testbed

ROOT = Path(__file__).parents[2]
TICKS_S = os.sysconf("SC_CLK_TCK")

STARTER = """
import json, os, sys, time
from blackstart.local.namespace import Testbed, enter_switch
enter_switch()
bed = Testbed(["a", "b", "c"])
"""
OWNER = (
    STARTER
    + """
pids = [host.pid for host in bed.hosts.values()]
pids += [host.spawn(["sleep", "600"]).pid for host in bed.hosts.values()]
for host in bed.hosts.values():
    host.run(["sh", "-c", "setsid -f sleep 601 > /dev/null 2>&1"])
spaces = [os.readlink("/proc/self/ns/net")]
spaces += [os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids for kind in ("net", "mnt", "pid", "uts", "ipc")]
seen = bed.hosts["a"].run(["ip", "-o", "link"]).stdout
print(json.dumps({"pids": pids, "spaces": sorted(set(spaces) - set(json.loads(sys.argv[1])))}), flush=True)
time.sleep(600)
"""
)


def test_leaving_the_testbed_takes_processes_ports_and_namespaces_away(testbed_factory):
    before = spaces_in_use()
    with Testbed(["a", "b", "c"]) as bed:
        pids = [host.spawn(["sleep", "600"]).pid for host in bed.hosts.values()]
        pids += [host.pid for host in bed.hosts.values()]
        made = {str(Path(f"/proc/{pid}/ns/net").readlink()) for pid in pids}
        assert len(made) == 3
        until_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    bed.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not made & spaces_in_use(until_s) - before
    assert "bs1" not in subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def test_sigkill_of_the_owner_leaves_nothing(testbed_factory):
    mounts = Path("/proc/self/mountinfo").read_text()
    owner, seen = start_owner()
    try:
        assert len(seen["pids"]) == 6
        assert set(seen["spaces"]) <= spaces_in_use()
    finally:
        killed_at, until_s = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
        owner.kill()
        owner.wait()
    held = [space for space in seen["spaces"] if not space.startswith("pid:")]
    gone = wait_until_true(lambda: not set(held) & spaces_in_use(until_s), 2.0)
    print(f"after SIGKILL of the owner networks and mounts were gone in {time.monotonic() - killed_at:.3f} s")
    assert gone
    assert wait_until_true(lambda: not [pid for pid in seen["pids"] if runs(pid)], 10.0)  # once the machine reaps
    assert wait_until_true(lambda: not set(seen["spaces"]) & spaces_in_use(until_s), 10.0)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert "veth" not in links, links
    assert not list(Path("/run/netns").glob("*")) if Path("/run/netns").exists() else True


def test_sigkill_at_any_instant_of_the_start_leaves_no_process(testbed_factory):
    rng = random.Random(5)
    mark = f"BLACKSTART_TEST_MARK={uuid.uuid4()}"
    script = STARTER + "time.sleep(600)"
    for _ in range(8):
        owner = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=os.environ | dict([mark.split("=")]))
        with contextlib.suppress(subprocess.TimeoutExpired):
            owner.wait(rng.uniform(0.08, 0.25))
        owner.kill()
        assert owner.wait() == -signal.SIGKILL
    assert wait_until_true(lambda: not bearers(mark), 5.0), bearers(mark)


def test_two_owners_use_the_same_addresses_side_by_side(testbed_factory):
    bed = testbed_factory(["a"])
    owner, seen = start_owner()
    try:
        assert bed.hosts["a"].pid not in seen["pids"]
        with pytest.raises(ConnectionRefusedError):  # our host a answers: nothing listens there
            socket.create_connection((bed.hosts["a"].address, 7000), 2)
        with pytest.raises(OSError, match=r"timed out|No route"):  # host c of the other testbed is not on this switch
            socket.create_connection(("10.77.0.3", 7000), 0.3)
    finally:
        owner.kill()
        owner.wait()
    assert bed.hosts["a"].run(["true"]).returncode == 0


def spaces_in_use(until_s: float = math.inf) -> set[str]:
    """Identities of every namespace that a process on this machine is in which began before *until_s* of its uptime.

    The kernel uses the number of a namespace that is gone for another one, of somebody who has begun since.
    """
    found = set()
    for entry in Path("/proc").glob("[0-9]*/ns/*"):
        with contextlib.suppress(OSError):
            seen = proc.stat(int(entry.parts[2]))
            if seen is not None and seen.start / TICKS_S <= until_s:
                found.add(str(entry.readlink()))
    return found


def start_owner() -> tuple[subprocess.Popen[bytes], dict[str, list]]:
    """A process with a testbed of three hosts; its pids and the namespaces that are only its own."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, json.dumps(sorted(spaces_in_use()))], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    with owner.stdout:
        return owner, json.loads(owner.stdout.readline())


def bearers(mark: str) -> list[str]:
    """Living processes with *mark* in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes() and runs(int(entry.name)):
                found.append((entry / "cmdline").read_text())
    return found


def runs(pid: int) -> bool:
    """Whether *pid* is alive: a zombie that the machine's pid 1 has yet to reap is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_true(condition, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
