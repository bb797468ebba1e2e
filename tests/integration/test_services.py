"""Test services on their hosts: they serve, fail over, and come back with their files after a loss of power."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from agent.system import proc
from blackstart.local import service_file, services
from protos.error import SpecError
from tests.chaos.case import wait_until

ROOT = Path(__file__).parents[2]
POSTGRES = ROOT / "deploy" / "services" / "postgres.yaml"


def missing(file):
    return ", ".join(service_file.load(file).missing())


@pytest.fixture
def postgres(tmp_path, testbed_factory):
    if lacks := missing(POSTGRES):
        pytest.skip(f"install {lacks}")
    testbed_factory([]).close()  # skips where there are no hosts
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the database does not run as root
    described = service_file.load(POSTGRES)
    described.reboot_s = 1.0
    with services.ServiceBed(described, tmp_path / "state", agents=False) as bed:
        yield bed


def sql(bed, text, port=5000):
    command = ["psql", "-h", bed.address("proxy"), "-p", str(port), "-U", "postgres", "-AtqXc", text, "postgres"]
    return bed.host("client").run(["timeout", "3", *command])


def wrote(bed, number):
    done = sql(bed, f"insert into t values ({number})")
    print(done.stderr.strip())  # shown where the test fails
    return done.returncode == 0


def primary(bed):
    """The name of the member that leads, by the members themselves; empty where none does."""
    for name in ("db1", "db2", "db3"):
        if not bed.host(name).off:
            found = bed.host("client").run(["curl", "-sf", "-m", "1", f"http://{name}:8008/cluster"])
            if found.returncode == 0:
                leaders = [one["name"] for one in json.loads(found.stdout)["members"] if one["role"] == "leader"]
                if leaders:
                    return leaders[0]
    return ""


def test_writes_go_on_after_the_primary_is_killed_and_a_host_comes_back_with_its_files(postgres):
    bed = postgres
    assert sql(bed, "create table t (k int); insert into t values (1)").returncode == 0
    first = primary(bed)
    assert first
    there = Path(f"/proc/{bed.host(first).pid}/ns/pid").readlink()
    victims = [pid for pid in proc.pids() if inside(pid, there)]
    assert len(victims) > 2
    for pid in victims:  # Patroni, and the server, which is not its child; its own end with it
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    failed_s = wait_until(lambda: wrote(bed, 2), 40)
    print(f"writes again after {failed_s:.1f} s")
    second = primary(bed)
    assert second not in ("", first)
    assert sql(bed, "select count(*) from t").stdout.strip() == "2"

    os.kill(bed.host(second).pid, signal.SIGKILL)  # as a fault would
    wait_until(bed.host(second).ended, 10)
    third_s = wait_until(lambda: wrote(bed, 3), 40)
    print(f"writes again after a loss of power after {third_s:.1f} s")
    until = time.monotonic() + 60
    before = bed.host(second)
    while bed.host(second) is before:
        bed.watch(time.monotonic())
        time.sleep(0.1)
        assert time.monotonic() < until
    wait_until(lambda: sql(bed, "select pg_is_in_recovery()", 5001).stdout.strip() == "t", 60)
    wait_until(lambda: b"state" in health(bed, second) and b"running" in health(bed, second), 60)
    assert sql(bed, "select count(*) from t where k = 3").stdout.strip() == "1"


def inside(pid, namespace):
    with contextlib.suppress(OSError):
        words = proc.command_line(pid)
        database = re.search(r"patroni|postgres", words) and "etcd" not in words
        return bool(database) and Path(f"/proc/{pid}/ns/pid").readlink() == namespace
    return False


def health(bed, name):
    return bed.host("client").run(["curl", "-s", "-m", "1", f"http://{name}:8008/health"]).stdout.encode()


@pytest.mark.parametrize("file", sorted((ROOT / "deploy" / "services").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_description_is_sound(file):
    described = service_file.load(file)
    assert described.hosts
    assert all(service.ready for service in described.services)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("hosts: [proxy]\n    command", "hosts: [proxi]\n    command"), r"services\[2\].*no host 'proxi'"),
        (('"{{ address }}:8008"}', '"{{ adress }}:8008"}'), r"files\[0\].*'adress' is undefined"),
        (("ready_s: 60", "ready_s: soon"), "ready_s"),
        (("version: 1", "version: 7"), "version"),
    ],
)
def test_what_is_wrong_with_a_description_is_said(tmp_path, change, said):
    text = POSTGRES.read_text()
    assert change[0] in text
    (tmp_path / "x.yaml").write_text(text.replace(*change, 1))
    with pytest.raises(SpecError, match=said):
        service_file.load(tmp_path / "x.yaml")


def test_an_unknown_variable_is_refused():
    with pytest.raises(SpecError, match=r"variable ttl: postgres\.yaml has none of that name"):
        service_file.load(POSTGRES, {"ttl": "3"})
