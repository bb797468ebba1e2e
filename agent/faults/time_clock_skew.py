"""`time.clock_skew`: programs under the wrapper see another time; the node's own clock is never touched."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.held import HeldFault, holder_of
from agent.system import preload, proc
from agent.system.preload import Wrapped
from protos.error import FaultError, Problem, SpecError

_LONGEST_S: Final = 10 * 366 * 86400.0
_DESCRIPTOR: Final = 619  # of the offset in the holder: one that a process with its recycled pid hardly has
_STEP_S: Final = 0.06  # a drift goes on in steps, as often as a holder is tended


class SkewSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, description="as given to `blackstart-agent wrap --name`")]
    skew_s: Annotated[
        float, Meta(ge=-_LONGEST_S, le=_LONGEST_S, description="added to the clock at once; negative: it is late")
    ] = 0.0
    drift_ppm: Annotated[
        float,
        Meta(ge=-500_000, le=500_000, description="microseconds that the clock gains a second; negative: it loses"),
    ] = 0.0
    monotonic: Annotated[
        bool, Meta(description="the monotonic clock too; must be as in `wrap --monotonic`, which cannot change later")
    ] = False


class TimeClockSkew(HeldFault):
    """A fresh process of the same environment and user tells the time, beside the node's clock."""

    kind: ClassVar[str] = "time.clock_skew"
    spec: ClassVar[type[msgspec.Struct]] = SkewSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "skew"
    page: ClassVar[Page] = Page(
        does="Programs that were started by `blackstart-agent wrap --name NAME -- COMMAND` see a clock that is ahead "
        "or late, and may drift. The node's own clock is not touched.",
        mechanism="libfaketime, preloaded by the wrapper, reads an offset file at every reading of the clock. "
        "A holder keeps the offset in its memory; the file is a link to it through /proc.",
        proof="A fresh process in the target's environment and of its user prints the time, which lies where the "
        "node's clock and the skew say; the library is mapped into every process that counts as a target.",
        ends="The link leads nowhere the moment the holder dies, with the agent or alone, and libfaketime then "
        "gives the node's clock. A shell that waits for this removes the dangling link; behind it stand guardian "
        "and journal.",
        limits="Static and set-uid programs, and those that ask the kernel past the C library (Go), are not reached. "
        "A reading of the clock costs microseconds under the wrapper, also without a fault. "
        "libfaketime 0.9.10 fails programs that sleep until an instant of CLOCK_MONOTONIC (Python 3.11 and later): "
        "the wrapper tests for it and warns. One user's processes a name, in the agent's own mount and pid namespace. "
        "Killed programs leave libfaketime's own two small files in /dev/shm.",
        example={"name": "scheduler", "skew_s": -90.0},
        source="libfaketime's README; proc(5), memfd_create(2)",
    )

    def missing(self) -> str:
        return "" if preload.installed() else "libfaketime (Debian package libfaketime)"

    def plan(self, spec: SkewSpec) -> list[Effect]:
        if not spec.skew_s and not spec.drift_ppm:
            raise SpecError(Problem("spec", "neither skew_s nor drift_ppm is set: the clock would be right"))
        wearers = _wearers(spec)
        file, (user, group) = _file(wearers), _user(wearers)
        drift = f", drifting {spec.drift_ppm:+g} ppm" if spec.drift_ppm else ""
        members = [one.identity for one in wearers]
        return [
            Effect(
                fault=self.kind,
                resource=f"clock:{file}",
                description=f"clock of {spec.name!r} ({len(members)} processes) {spec.skew_s:+g} s{drift}",
                undo=self.undo,
                touches=Touched(processes=members),
                facts={
                    "name": spec.name, "file": file, "user": user, "group": group, "descriptor": _DESCRIPTOR,
                    "skew_s": spec.skew_s, "drift_ppm": spec.drift_ppm, "targets": msgspec.to_builtins(members),
                },
            )
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        if os.path.lexists(effect.facts["file"]):
            raise FaultError(f"{effect.facts['file']} is there already, and not ours: rm {effect.facts['file']}")
        if not any(map(proc.alive, msgspec.convert(effect.facts["targets"], list[proc.Identity]))):
            raise FaultError(f"{effect.description}: its processes are gone")
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        planned = msgspec.convert(facts["targets"], list[proc.Identity])
        targets = [one for one in planned if proc.alive(one)]
        worn = [one for one in preload.wrapped(facts["name"]) if one.file == facts["file"]]
        reached = [one for one in worn if one.identity in targets and preload.is_loaded(one.identity.pid)]
        if not reached:
            text = "no process of the plan is left under the wrapper"
            return Receipt(confirmed=False, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)
        looks = [await self._look(one, effect, injected) for one in {one.user: one for one in reached}.values()]
        text = (
            f"{'; '.join(text for _, text in looks)}; the library is in {len(reached)} of its {len(targets)} processes"
        )
        confirmed = all(right for right, _ in looks) and len(reached) == len(targets)
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def _look(self, one: Wrapped, effect: Effect, injected: Injected) -> tuple[bool, str]:
        """Whether a process like *one* sees the skew that was asked, and not the node's own time; and in words."""
        facts = effect.facts
        before, said, after = await preload.look(one)
        gained_s = (time.monotonic_ns() - injected.lo_ns) / 1e9 * facts["drift_ppm"] / 1e6
        slack_s = abs(gained_s) + _STEP_S * abs(facts["drift_ppm"]) / 1e6 + 1e-5
        as_asked = before + facts["skew_s"] - slack_s <= said <= after + facts["skew_s"] + slack_s
        off_s, half_ms = said - (before + after) / 2, (after - before) / 2 * 1000
        text = (
            f"a fresh process like {one.identity.name} (pid {one.identity.pid}) says {off_s:+.3f} s ± {half_ms:.0f} ms"
        )
        return as_asked and not before <= said <= after, text

    async def revert(self, effect: Effect) -> None:
        await super().revert(effect)
        if _is_ours(effect):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(effect.facts["file"])  # noqa: PTH108 a link that leads nowhere

    def _left(self, effect: Effect) -> list[str]:
        return [f"the link {effect.facts['file']} still stands"] if _is_ours(effect) else []

    def remedy(self, effect: Effect) -> str:
        kill = super().remedy(effect)
        return "; ".join(filter(None, (kill, f"rm {effect.facts['file']}" if _is_ours(effect) else "")))


def _is_ours(effect: Effect) -> bool:
    """Whether the offset file is the link of this very effect's holder."""
    holder = holder_of(effect)
    try:
        return holder is not None and os.readlink(effect.facts["file"]) == _link(holder.pid)  # noqa: PTH115
    except OSError:
        return False


def _link(pid: int) -> str:
    return f"/proc/{pid}/fd/{_DESCRIPTOR}"


def _wearers(spec: SkewSpec) -> list[Wrapped]:
    """The processes under the name that a skew reaches; SpecError when it reaches none."""
    found = preload.wrapped(spec.name)
    if not found:
        raise SpecError(
            Problem("spec.name", f"no living process runs under the name {spec.name!r}",
                    f"start it by `blackstart-agent wrap --name {spec.name} -- COMMAND`")
        )  # fmt: skip
    reached = [one for one in found if preload.is_loaded(one.identity.pid) and preload.shares_view(one.identity.pid)]
    if not reached:
        raise SpecError(
            Problem("spec.name", f"none of the {len(found)} processes under {spec.name!r} can be reached",
                    "static and set-uid programs do not load libfaketime; others must be in the agent's namespaces")
        )  # fmt: skip
    if {one.monotonic for one in reached} != {spec.monotonic}:
        how = "skews the monotonic clock too" if not spec.monotonic else "leaves the monotonic clock alone"
        raise SpecError(Problem("spec.monotonic", f"the wrapper {how}", "it is chosen by `wrap --monotonic`"))
    return reached


def _file(wearers: list[Wrapped]) -> str:
    """The one offset file of all; refused where a user could have pointed the agent at somebody else's directory."""
    files = {one.file for one in wearers}
    if len(files) > 1:
        raise SpecError(
            Problem("spec.name", f"means {len(files)} groups with an offset file each", "rename all but one")
        )
    path = Path(files.pop())
    owner = wearers[0]
    try:
        folder = path.parent.lstat()
    except OSError as error:
        raise SpecError(Problem("spec.name", f"the wrapper's directory {path.parent}: {error.strerror}")) from error
    own = stat.S_ISDIR(folder.st_mode) and folder.st_uid == owner.user
    if path.name != owner.environment[preload.MARK] or not (own or str(path.parent) == preload.FOLDER):
        raise SpecError(Problem("spec.name", f"the offset file {path} is not one that the wrapper makes"))
    return str(path)


def _user(wearers: list[Wrapped]) -> tuple[int, int]:
    """The user whose programs the holder serves: it must be one of them to be seen through /proc."""
    users = {(one.user, one.group) for one in wearers if one.user}
    if len(users) > 1:
        raise SpecError(Problem("spec.name", f"processes of {len(users)} users run under it", "one name a user"))
    user = users.pop() if users else (wearers[0].user, wearers[0].group)
    if os.getuid() not in (0, user[0]):
        raise SpecError(
            Problem("spec.name", f"its processes belong to user {user[0]}", "run the agent as it, or as root")
        )
    return user
