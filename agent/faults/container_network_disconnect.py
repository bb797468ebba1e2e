"""`container.network_disconnect`: a container is off one of its networks, and back on it at the end."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import container_change
from agent.faults import container_target as target
from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.system import engine, proc
from agent.system.engine import Container
from protos.error import Problem, SpecError

_FIXED = ("host", "none")


class DisconnectSpec(target.ContainerSpec, kw_only=True, forbid_unknown_fields=True):
    network: Annotated[str, Meta(description="name or id of the network; empty: the only one that it is on")] = ""


class ContainerNetworkDisconnect(target.HeldContainer):
    """The container's network namespace has lost an interface and the address."""

    kind: ClassVar[str] = "container.network_disconnect"
    spec: ClassVar[type[msgspec.Struct]] = DisconnectSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A container is taken off one of its networks, and put back with the same aliases and addresses.",
        mechanism="The engine's API, which takes the interface out of the container's network namespace.",
        proof="/proc says that the namespace of the first process has lost an interface and the addresses on it. "
        "The engine's own event is named beside it.",
        ends="A holder that outlives the agent has the engine connect it again at the deadline, or when the agent is "
        "gone; behind it stand the guardian and the journal, also after a reboot.",
        limits=target.LIMITS + "Connections break for good: the interface is another one afterwards. Fixed addresses, "
        "aliases, links and driver options are as before; an address that the engine had chosen is asked for again, "
        "and is another one if somebody has taken it meanwhile. To cut packets and keep the interface: "
        "`network.partition`. Once the network itself is removed there is nothing to be put back on.",
        example={"name": "worker-1", "network": "backend"},
        source="Docker Engine API, NetworkDisconnect and NetworkConnect",
    )

    def missing(self) -> str:
        return engine.missing()

    def plan(self, spec: DisconnectSpec) -> list[Effect]:
        host, found = target.resolve(spec)
        effects = []
        for one in found:
            network = _network(one, spec.network)
            description = f"disconnection from {network['name']}"
            interfaces = sorted(engine.interfaces(one.pid))
            effects.append(
                target.effect(
                    self.kind, host, one, self.undo, description,
                    change="disconnect", network=network, interfaces=interfaces,
                )
            )  # fmt: skip
            effects[-1].survives_reboot = True
        return effects

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        first, network = target.first_of(effect), effect.facts["network"]
        lost = sorted(set(effect.facts["interfaces"]) - engine.interfaces(first.pid))
        owned = [one for one in (network["ipv4"], network["ipv6"]) if one]
        kept = [one for one in owned if engine.has_address(first.pid, one)]
        confirmed = proc.alive(first) and bool(lost) and not kept
        text = (
            f"the network namespace of pid {first.pid} has lost {', '.join(lost) or 'no interface'}"
            f" and {len(owned) - len(kept)} of {len(owned)} addresses"
        )
        text += await target.told(effect, injected, "disconnect")
        return target.receipt(injected, confirmed=confirmed, text=text)

    def remedy(self, effect: Effect) -> str:
        network = effect.facts["network"]
        words = ["network", "connect"]
        for option, value in (("--ip", network["fixed_ipv4"]), ("--ip6", network["fixed_ipv6"])):
            words += [option, value] if value else []
        for alias in network["settings"]["aliases"]:
            words += ["--alias", alias]
        connect = target.command(effect, *words, network["id"], effect.facts["id"])
        return "; ".join(filter(None, (super().remedy(effect), connect)))


def _network(one: Container, asked: str) -> dict[str, Any]:
    """The facts of the network that is meant: all that is needed to connect as before."""
    on = {name: about for name, about in one.networks.items() if name not in _FIXED}
    if not on:
        raise SpecError(Problem("spec", f"container {one.name} is on no network that it could be taken off"))
    chosen = [name for name, about in on.items() if asked in (name, about["NetworkID"])] if asked else list(on)
    if len(chosen) != 1:
        raise SpecError(
            Problem("spec.network", f"{asked!r} is none of container {one.name}'s networks" if asked else
                    f"container {one.name} is on {len(on)}: one must be named", f"it is on {', '.join(sorted(on))}")
        )  # fmt: skip
    about = on[chosen[0]]
    configured = about.get("IPAMConfig") or {}
    own = {one.id, one.id[:12]}  # which the engine adds by itself
    return {
        "id": about["NetworkID"], "name": chosen[0],
        "fixed_ipv4": configured.get("IPv4Address") or "", "fixed_ipv6": configured.get("IPv6Address") or "",
        **container_change.addresses(one, about["NetworkID"]),
        "settings": {
            "aliases": [alias for alias in about.get("Aliases") or [] if alias not in own],
            "links": [list(link.partition(":")[::2]) for link in about.get("Links") or []],
            "driver_opt": about.get("DriverOpts"),
            "link_local_ips": configured.get("LinkLocalIPs"),
        },
    }  # fmt: skip
