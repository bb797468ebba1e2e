"""The fault contract: planning is pure, effects are data, revert works in a fresh process from the journal alone.

Order, always: plan, policy, journal the intent (fsync), arm the guardian, inject, observe, (deadline, abort, revert),
revert, audit for residue, journal the end. `agent.effect` keeps this order; a fault only knows its own step.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import msgspec

from agent.system import proc

OnLost = Literal["revert", "hold"]


class Undo(StrEnum):
    """Who ends an effect when the agent has been SIGKILLed."""

    KERNEL = "kernel"  # by itself, with nobody left alive
    GUARDIAN = "guardian"
    JOURNAL = "journal"  # at the agent's next start
    SELF_HEALING = "self_healing"  # nothing to undo: the system under test recovers or does not


class Touched(msgspec.Struct, kw_only=True):
    """What an effect lays hands on, in the terms in which a node's policy protects things (`agent.policy`)."""

    processes: list[proc.Identity] = []
    addresses: list[str] = []  # networks, IPv4 and IPv6, of the peers
    elsewhere: list[str] = []  # as addresses, in a namespace on which neither agent nor node depends
    ports: list[int] = []  # service ports; empty beside addresses: all of them
    paths: list[str] = []  # directories that fail or are slow
    mounts: list[str] = []  # mount points whose space, inodes or throughput is used up
    containers: list[str] = []  # names
    namespaces: list[str] = []  # of Kubernetes: of objects that are changed, made or ended
    nodes: list[str] = []  # of Kubernetes, by name
    kubelets: list[str] = []  # names of processes that are taken for this node's kubelet
    budgets: list[str] = []  # PodDisruptionBudgets that would be violated, in words


class Effect(msgspec.Struct, kw_only=True):
    """One thing done to one resource. All that revert needs is in here."""

    id: str = msgspec.field(default_factory=lambda: secrets.token_hex(6))
    fault: str
    resource: str  # what two effects may not hold at once: "process:4711:8812", "network:4026531840:10.0.0.2"
    description: str  # for a human, before and after
    undo: Undo
    facts: dict[str, Any]  # the fault's own: identities, addresses; extended by inject
    touches: Touched = msgspec.field(default_factory=Touched)
    injection: str = ""
    run_id: str = ""
    boot_id: str = ""
    duration_s: float = 0.0
    deadline_ns: int = 0  # CLOCK_MONOTONIC; 0 for self-healing effects
    suspended_ns: int = 0  # how long this boot had been suspended when it began; what comes later counts
    survives_reboot: bool = False  # whether a reboot leaves it in force (an engine's stopped container)
    follows: str = ""  # id of the effect whose target went away and came back as this one's
    on_lost_controller: OnLost = "revert"


class Receipt(msgspec.Struct, frozen=True):
    """What an observation independent of the injection saw. The fault took hold in [lo_ns, hi_ns], if it did."""

    confirmed: bool
    text: str
    lo_ns: int
    hi_ns: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue says of a fault (docs/faults.md, `blackstart faults show`), in full sentences."""

    does: str  # what happens to the target
    mechanism: str  # how, with the kernel's or the library's own names
    proof: str  # the receipt: what is observed, by another way than the one that injects
    ends: str  # who ends it when the agent, or everybody, is dead
    limits: str  # what it does not do, and what to beware of
    example: dict[str, Any]  # a spec
    source: str = ""  # manual pages, documents


class Injected(msgspec.Struct, frozen=True):
    """The bounds of the instant at which the injection itself says that it took hold."""

    lo_ns: int
    hi_ns: int


SpecT_contra = TypeVar("SpecT_contra", contravariant=True)


class Fault(Protocol[SpecT_contra]):
    """One kind of fault. Methods raise `protos.error` types only."""

    kind: ClassVar[str]
    spec: ClassVar[type[msgspec.Struct]]
    undo: ClassVar[Undo]  # at its weakest; an effect's own may be stronger
    page: ClassVar[Page]

    def missing(self) -> str:
        """What this node lacks for the fault, in words; empty when it can be done."""

    def plan(self, spec: SpecT_contra) -> list[Effect]:
        """The effects that *spec* means here and now. Touches nothing. SpecError if it means none."""

    def prepare(self, effect: Effect) -> None:
        """Starts what must be known to the journal before the fault takes hold; puts it into the effect's facts."""

    async def inject(self, effect: Effect) -> Injected:
        """Puts the effect in force. On FaultError nothing of it is left."""

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        """Proof by another way than the one that injected it."""

    async def revert(self, effect: Effect) -> None:
        """Ends the effect; harmless to repeat, also when it never took hold or its target is gone."""

    def residue(self, effect: Effect) -> list[str]:
        """What is left of a reverted effect, in words; empty is the only good answer."""

    def remedy(self, effect: Effect) -> str:
        """The command with which a human ends the effect, should revert fail."""


class Following(Protocol):
    """What a fault may offer beside: without it a target is taken to be there until the effect ends."""

    def gone(self, effect: Effect) -> bool:
        """Whether the target went away by something else than the fault; asked four times a second."""


class Slow(Protocol):
    """What a fault may offer beside, whose plan needs a process that takes a while to start."""

    plans_elsewhere: ClassVar[bool]  # whether its plan asks a server: then it is made in a thread (`agent.remote`)

    async def warm(self) -> None:
        """Starts it, so that a plan, which the agent waits for, does not take long. Raises nothing."""


class Elsewhere(Protocol):
    """What a fault may offer beside, whose end asks a server: its `residue` is looked for in a thread."""

    ends_elsewhere: ClassVar[bool]
