"""The testbed: hosts are up at once, apart from each other, and leave nothing behind however their owner ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blackstart.local import switch
from blackstart.local.namespace import Testbed
from protos.error import BlackstartError, RefusedError

ROOT = Path(__file__).parents[2]
NAMES = ["a", "b", "c", "d", "e"]

SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
kept = []
while True:
    kept.append(server.accept()[0])
    kept[-1].send(b"hello")
"""
CLIENT = """
import socket, sys
print(socket.create_connection((sys.argv[1], 7000), 2).recv(5).decode())
"""


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-S", "-c", *arguments]


def serve(bed: Testbed, name: str) -> subprocess.Popen[bytes]:
    server = bed.hosts[name].spawn(python(SERVER), stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout:
        assert server.stdout.readline() == b"ready\n"
    return server


def wait_until_true(condition, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def test_five_hosts_are_up_in_a_second_and_reach_each_other(testbed_factory):
    started = time.monotonic()
    bed = testbed_factory(NAMES)
    up_s = time.monotonic() - started
    print(f"5 hosts up in {up_s:.3f} s")
    assert up_s <= 5.0  # seen: 0.04 s; loose, because other work shares the cores
    for name in NAMES:
        serve(bed, name)
    for name in NAMES:
        for peer in NAMES:
            done = bed.hosts[name].run(python(CLIENT, bed.hosts[peer].address))
            assert done.stdout == "hello\n", f"{name} to {peer}: {done.stderr}"
    with socket.create_connection((bed.hosts["e"].address, 7000), 2) as direct:  # the test is on the switch itself
        assert direct.recv(5) == b"hello"


def test_a_host_sees_its_own_processes_name_and_network_only(testbed_factory):
    bed = testbed_factory(["a", "b"])
    sleeper = bed.hosts["b"].spawn(["sleep", "600"])
    pids = set(bed.hosts["a"].run(["sh", "-c", "echo /proc/[0-9]*"]).stdout.split())
    assert pids < {f"/proc/{n}" for n in range(1, 30)}
    assert not bed.hosts["a"].run(["sh", "-c", "cat /proc/[0-9]*/cmdline"]).stdout.count("600")
    assert bed.hosts["a"].run(["uname", "-n"]).stdout == "a\n"
    links = bed.hosts["a"].run(["ip", "-o", "link"]).stdout.splitlines()
    assert [line.split()[1].partition("@")[0].rstrip(":") for line in links] == ["lo", "eth0"]
    assert sleeper.poll() is None


def test_a_signal_reaches_the_spawned_process_itself(testbed_factory):
    host = testbed_factory(["a"]).hosts["a"]
    child = host.spawn(["sleep", "600"])
    child.send_signal(signal.SIGSTOP)
    assert wait_until_true(lambda: " (sleep) T " in Path(f"/proc/{child.pid}/stat").read_text(), 2.0)
    child.kill()
    assert child.wait(2.0) == -signal.SIGKILL


def test_pid_one_reaps_orphans(testbed_factory):
    host = testbed_factory(["a"]).hosts["a"]
    host.run(["sh", "-c", "setsid -f true > /dev/null 2>&1"])
    assert wait_until_true(lambda: " Z " not in host.run(["sh", "-c", "cat /proc/[0-9]*/stat"]).stdout, 2.0)


def test_a_command_runs_where_it_is_told_and_its_failure_is_told(testbed_factory, tmp_path):
    host = testbed_factory(["a"]).hosts["a"]
    assert host.run(["pwd"]).stdout.strip() == str(Path.cwd())
    with host.spawn(["pwd"], cwd=tmp_path, stdout=subprocess.PIPE) as child:
        assert child.communicate()[0].decode().strip() == str(tmp_path)
    with host.spawn(["env"], env={"ONLY": "this"}, stdout=subprocess.PIPE) as child:
        assert child.communicate()[0] == b"ONLY=this\n"
    assert host.run(["sh", "-c", "echo why >&2; exit 7"]).returncode == 7
    with pytest.raises(subprocess.TimeoutExpired):
        host.run(["sleep", "600"], timeout_s=0.05)
    with pytest.raises(FileNotFoundError):
        host.spawn(["no-such-program"])


def test_a_power_off_is_silent_and_a_peer_notices_by_keepalive(testbed_factory):
    bed = testbed_factory(["a", "b"])
    serve(bed, "b")
    with socket.create_connection((bed.hosts["b"].address, 7000), 2) as peer:
        assert peer.recv(5) == b"hello"
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 1)):
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        off_at = time.monotonic()
        bed.hosts["b"].power_off()
        assert select.select([peer], [], [], 0.2)[0] == []  # no FIN, no RST
        peer.settimeout(10.0)
        with pytest.raises(OSError, match=r"timed out|No route"):
            peer.recv(1)
        print(f"power-off noticed after {time.monotonic() - off_at:.2f} s")


def test_a_host_that_is_killed_sends_a_fin(testbed_factory):
    bed = testbed_factory(["a", "b"])
    serve(bed, "b")
    with socket.create_connection((bed.hosts["b"].address, 7000), 2) as peer:
        assert peer.recv(5) == b"hello"
        bed.hosts["b"].kill()
        assert peer.recv(1) == b""


def test_an_unplugged_host_comes_back_on_the_same_connection(testbed_factory):
    bed = testbed_factory(["a"])
    serve(bed, "a")
    bed.hosts["a"].port(up=False)
    with pytest.raises(OSError, match="timed out"):
        socket.create_connection((bed.hosts["a"].address, 7000), 0.3)
    bed.hosts["a"].port(up=True)
    with socket.create_connection((bed.hosts["a"].address, 7000), 5) as peer:
        assert peer.recv(5) == b"hello"


def test_a_host_that_is_off_refuses_and_boots_at_its_old_address(testbed_factory):
    bed = testbed_factory(["a", "b"])
    before = bed.hosts["a"]
    victim = before.spawn(["sleep", "600"])
    before.power_off()
    before.power_off()
    assert victim.returncode == -signal.SIGKILL
    with pytest.raises(RefusedError, match="host a is off"):
        before.spawn(["true"])
    with pytest.raises(RefusedError, match="host a is off"):
        before.port(up=True)
    after = bed.add("a")
    assert (after.address, after.pid != before.pid) == (before.address, True)
    serve(bed, "a")
    assert bed.hosts["b"].run(python(CLIENT, after.address)).stdout == "hello\n"
    with pytest.raises(RefusedError, match="has a host a already"):
        bed.add("a")


def test_a_testbed_that_cannot_start_leaves_nothing(testbed_factory):
    with pytest.raises(RefusedError, match="has a host a already"):
        Testbed(["a", "b", "a"])
    with Testbed(["a", "b"]) as bed:
        with pytest.raises(RefusedError, match="has a testbed open already"):
            Testbed(["c"])  # it would share the first one's addresses
        serve(bed, "a")
        assert bed.hosts["b"].run(python(CLIENT, bed.hosts["a"].address)).stdout == "hello\n"
    with pytest.raises(BlackstartError, match="ip -batch failed"):
        switch.configure("link set no-such-port up")


def test_the_switch_is_refused_once_threads_exist(needs_root):
    script = "import threading, blackstart.local.switch as s; threading.Thread(target=threading.Event().wait, daemon=True).start(); s.enter_switch()"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "has 2 threads already" in done.stderr


def test_without_a_switch_nothing_is_touched(needs_root):
    script = "from blackstart.local.namespace import Testbed; Testbed(['a'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "a testbed needs a switch" in done.stderr


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert switch.available() == "needs root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(switch.kernel, "has_capabilities", lambda *_: True)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert switch.available() == "install coreutils dash iproute2 mount util-linux"
