"""The test services as Docker Compose files: a client takes them, and they are the sets of deploy/services."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from blackstart.local import service_file

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
FILES = sorted(COMPOSE.glob("*.yaml"))
SETS = {path.stem: path for path in (ROOT / "deploy" / "services").glob("*.yaml")}
NOT_COMPOSED = {"kubernetes", "nats-five", "pipeline"}  # kubelets; three, grown; programs of Blackstart's environment
FOLDER = "/etc/blackstart"  # where a host finds its files

each = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)


@functools.cache
def compose_client():
    """The command of Docker's Compose plugin, else of the Compose before it; none where neither is there."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], check=False, capture_output=True).returncode
        ):
            return command
    return []


def services(file):
    return yaml.safe_load(file.read_text(encoding="utf-8"))["services"]


def described(file):
    return service_file.load(SETS[file.stem])


def own_folder(service):
    """The folder beside the Compose file which *service* mounts at FOLDER."""
    sources = [source for source, target, *_ in (one.split(":") for one in service["volumes"]) if target == FOLDER]
    assert len(sources) == 1, f"one folder is mounted at {FOLDER}, and not {sources}"
    return COMPOSE / sources[0]


def script(service):
    """The text of what a host runs; empty for one that runs nothing."""
    shell, _, path = service.get("command", "").partition(" ")
    if not path:
        return ""
    assert (shell, path.rpartition("/")[0]) == ("sh", FOLDER)
    return (own_folder(service) / Path(path).name).read_text(encoding="utf-8")


def test_every_set_has_a_file():
    assert {file.stem for file in FILES} == set(SETS) - NOT_COMPOSED


@each
def test_a_compose_client_accepts_it(file):
    if not compose_client():
        pytest.skip("install docker-compose, or Docker's Compose plugin")
    done = subprocess.run([*compose_client(), "-f", str(file), "config"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(services(file))


@each
def test_it_has_the_hosts_of_its_set_by_name_and_label(file):
    here = {name: (one["hostname"], one["labels"]) for name, one in services(file).items()}
    assert here == {name: (name, host.labels) for name, host in described(file).hosts.items()}


@each
def test_its_hosts_run_the_services_of_the_set_and_start_them_again_as_late(file):
    here = {
        (host, name, float(restart_s))
        for host, one in services(file).items()
        for name, restart_s in re.findall(r"^keep (\S+) (\S+)", script(one), re.MULTILINE)
    }
    assert here == {(host, one.name, one.restart_s) for one in described(file).services for host in one.hosts}


@each
def test_what_it_mounts_builds_and_names_is_there(file):
    for name, one in services(file).items():
        folder = own_folder(one)
        texts = [path.read_text(encoding="utf-8") for path in folder.iterdir()]
        named = set(re.findall(rf"{FOLDER}/([\w.]+)", "\n".join([one.get("command", ""), *texts])))
        missing = {path for path in named if not (folder / path).is_file()}
        assert not missing, f"{name}: not in {folder.name}: {missing}"
        assert (COMPOSE / one["build"]["context"] / "Dockerfile").is_file()


@each
def test_its_hosts_know_one_another_and_are_reached_from_this_machine_only(file):
    hosts = services(file)
    addresses = {name: one["networks"]["hosts"]["ipv4_address"] for name, one in hosts.items()}
    for name, one in hosts.items():
        known = dict(entry.split(":") for entry in one["extra_hosts"])
        assert known == {other: addresses[other] for other in known}, name
        assert set(known) == {other for other in hosts if "command" in hosts[other]}, name
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", [])), name
    assert len(set(addresses.values())) == len(addresses)
