"""What is changed in a container and given back: paused, stopped, off a network.

`take` changes a container that is as it was planned; `give_back` undoes that, and only that: harmless to repeat, and
harmless when it never happened, when somebody else has undone it, or when the container is gone. `left` says in words
what has not been given back yet. All three work from the effect's facts alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from agent.system.engine import Container, Engine

Facts = dict[str, Any]


class Change(NamedTuple):
    """One kind of change."""

    take: Callable[[Engine, Facts], None]
    is_left: Callable[[Container, Facts], bool]
    give_back: Callable[[Engine, Facts], None]
    words: str
    early_s: float = 0.0  # how long before the deadline it is given back, because that takes a while


def require(one: Engine, facts: Facts) -> Container:
    """The container, running as it was when planned; OSError when it is another run of it, or does not run."""
    container = one.find(facts["id"])
    if container is None or container.started_at != facts["started_at"] or container.status != "running":
        state = "gone" if container is None else f"{container.status}, since {container.started_at}"
        raise OSError(3, f"container {facts['name']} is not as it was planned any more: {state}")
    return container


def take(one: Engine, facts: Facts) -> None:
    require(one, facts)
    CHANGES[facts["change"]].take(one, facts)


def give_back(one: Engine, facts: Facts) -> None:
    """Undoes the change where it is still there; OSError when the engine does not do it."""
    if not left(one, facts):
        return
    try:
        CHANGES[facts["change"]].give_back(one, facts)
    except OSError:
        if left(one, facts):  # else somebody (the guardian, the holder) did so at the same time
            raise


def left(one: Engine, facts: Facts) -> str:
    container = one.find(facts["id"])
    change = CHANGES[facts["change"]]
    if container is None or not change.is_left(container, facts):
        return ""
    if facts["change"] == "disconnect" and not one.has_network(facts["network"]["id"]):
        return ""  # there is nothing left to be connected to
    return f"container {facts['name']} {change.words}"


def _same_run(container: Container, facts: Facts) -> bool:
    """Whether it has not been started anew since: what then happened to it was somebody else's doing."""
    return bool(container.started_at == facts["started_at"])


def _paused(container: Container, facts: Facts) -> bool:
    return container.status == "paused" and _same_run(container, facts)


def _stopped(container: Container, facts: Facts) -> bool:
    return container.status in ("exited", "stopped") and _same_run(container, facts)


def _off(container: Container, facts: Facts) -> bool:
    return facts["network"]["id"] not in {one["NetworkID"] for one in container.networks.values()}


def _connect(one: Engine, facts: Facts) -> None:
    """Connects as before. An address that the engine had chosen is asked for only if it does not come by itself."""
    network = facts["network"]
    fixed = {"ipv4": network["fixed_ipv4"], "ipv6": network["fixed_ipv6"]}
    before = {"ipv4": network["ipv4"], "ipv6": network["ipv6"]}
    settings = network["settings"]
    one.connect(facts["id"], network["id"], **fixed, **settings)
    container = one.find(facts["id"])
    now = addresses(container, network["id"]) if container and container.status == "running" else before
    if now != before and not any(fixed.values()):
        one.disconnect(facts["id"], network["id"])
        try:
            one.connect(facts["id"], network["id"], **before, **settings)
        except OSError:  # the engine fixes none on this network, or another container has it by now
            one.connect(facts["id"], network["id"], **settings)


def addresses(container: Container, network: str) -> dict[str, str]:
    """The container's addresses on the network of that id."""
    (found,) = [one for one in container.networks.values() if one["NetworkID"] == network] or [{}]
    return {"ipv4": found.get("IPAddress") or "", "ipv6": found.get("GlobalIPv6Address") or ""}


CHANGES: Final = {
    "pause": Change(
        lambda one, facts: one.pause(facts["id"]), _paused, lambda one, facts: one.unpause(facts["id"]),
        "is still paused",
    ),
    "stop": Change(
        lambda one, facts: one.stop(facts["id"], facts["grace_s"]), _stopped,
        lambda one, facts: one.start(facts["id"]), "is still stopped", early_s=0.4,
    ),
    "disconnect": Change(
        lambda one, facts: one.disconnect(facts["id"], facts["network"]["id"]), _off, _connect,
        "is still off the network",
    ),
}  # fmt: skip
