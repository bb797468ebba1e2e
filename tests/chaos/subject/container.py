"""Targets of `container.*`: a container each, in a daemon of the tests' own (`tests.chaos.dockerd`)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import Any

from tests.chaos import dockerd
from tests.chaos.case import Case, subject
from tests.chaos.dockerd import missing

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


@contextlib.contextmanager
def client() -> Iterator[Any]:
    """A connection to the daemon; the agents that are started inside find it by DOCKER_HOST."""
    import docker

    host, before = dockerd.socket(), os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = host
    try:
        with contextlib.closing(docker.DockerClient(base_url=host, timeout=20)) as made:
            yield made
    finally:
        if before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = before


@contextlib.contextmanager
def container(made: Any, image: str = dockerd.IMAGE, **options: Any) -> Iterator[Any]:
    """A container that runs until it is removed at the end."""
    options = {"name": f"test-{secrets.token_hex(6)}", "network_mode": "none", "stop_signal": "SIGTERM", **options}
    one = made.containers.run(image, list(SLEEP), detach=True, **options)
    try:
        yield one
    finally:
        remove(one)


def remove(one: Any) -> None:
    import docker

    with contextlib.suppress(docker.errors.NotFound):
        one.remove(force=True)


def status(one: Any) -> str:
    """As the engine says; `gone` for one that was removed."""
    import docker

    try:
        one.reload()
    except docker.errors.NotFound:
        return "gone"
    return str(one.status)


@contextlib.contextmanager
def _case(kind: str, **spec: Any) -> Iterator[tuple[Case, Any]]:
    with client() as made, container(made) as one:
        case = Case(kind, {"name": one.name, **spec}, lambda: {"status": status(one)}, vanish=lambda: remove(one))
        yield case, one


@subject("container.kill", missing=missing, variants={"process": {"via": "process"}})
def kill() -> Iterator[Case]:
    with _case("container.kill") as (case, _):
        case.spent = frozenset({"status"})
        yield case


@subject("container.restart", missing=missing)
def restart() -> Iterator[Case]:
    with _case("container.restart", grace_s=0) as (case, _):
        yield case


@subject("container.pause", missing=missing)
def pause() -> Iterator[Case]:
    with _case("container.pause") as (case, one):
        case.in_force = lambda: status(one) == "paused"
        yield case


@subject("container.stop", missing=missing)
def stop() -> Iterator[Case]:
    with _case("container.stop", grace_s=0) as (case, one):
        case.in_force = lambda: status(one) == "exited"
        yield case


@contextlib.contextmanager
def network(made: Any) -> Iterator[Any]:
    """A network with a subnet of its own, so that addresses can be fixed on it."""
    import docker

    for _ in range(20):
        subnet = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(256)}.0/24"
        pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
        with contextlib.suppress(docker.errors.APIError):  # taken by another test
            one = made.networks.create(f"test-{secrets.token_hex(6)}", ipam=pool)
            break
    try:
        yield one
    finally:
        one.remove()


def settings(one: Any, name: str) -> dict[str, Any]:
    """How the container is on the network: everything but what is new with every connection."""
    if status(one) == "gone":
        return {}
    found = one.attrs["NetworkSettings"]["Networks"].get(name, {})
    return {key: value for key, value in found.items() if key != "EndpointID"}


@subject("container.network_disconnect", missing=missing)
def disconnect() -> Iterator[Case]:
    with client() as made, network(made) as net, container(made, network=net.name, network_mode=None) as one:
        yield Case(
            "container.network_disconnect", {"name": one.name, "network": net.name},
            lambda: {"settings": settings(one, net.name)}, in_force=lambda: not settings(one, net.name),
            vanish=lambda: remove(one),
        )  # fmt: skip
