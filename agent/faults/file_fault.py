"""What `file.io_error` and `file.io_slow` have in common: the directory, the mount over it, and its end.

Invariant: a mount is ours only by its source, `blackstart_ID`; nothing else is ever unmounted.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import file_trial, target
from agent.faults.base import Effect, Injected, Touched, Undo
from agent.faults.file_server import IDLE, SCRATCH_SUFFIX
from agent.faults.held import HeldFault
from agent.system import fuse, mountspace, proc, process
from agent.system.mountspace import Mount, is_below
from agent.system.privilege import has_capability
from protos.error import Problem, RefusedError, SpecError

_CAP_SYS_ADMIN = 21
_ATTEMPTS_MAX = 500
_SERVER = "agent.faults.file_server"
Operation = Literal[
    "open", "open_write", "read", "write", "fsync", "create", "unlink", "rename", "truncate", "list", "setattr", "close"
]

LIMITS = (
    "Who had a file or directory open before goes on with the one underneath, and so do processes in other mount "
    "namespaces; on a mount that is shared, all that share it are hit. Sockets and FIFOs in the directory that were "
    "opened before cannot be reached through the mount. Device numbers of files look different meanwhile. Writes go "
    "through as root: user quotas and the reserve of the file system do not hold. Before Linux 6.6, what is in the "
    "page cache is read without a fault. Only looking (stat, access) never fails. While others keep files open that "
    "they opened during the fault, a process stays to serve them, without faults; SIGKILL of it costs them those. "
    "What others mount below the directory meanwhile is in the way of the end: the fault ends, the mount waits."
)


class FileSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    path: Annotated[str, Meta(min_length=2, pattern="^/", description="the directory, absolute")]
    operations: Annotated[
        list[Operation],
        Meta(
            min_length=1,
            description="what is hit; `create` is also making directories and links, `list` reading one, `open_write` "
            "opening a file that exists to change it",
        ),
    ]
    fraction: Annotated[float, Meta(gt=0, le=1, description="of the operations that match")] = 1.0
    names: Annotated[
        list[str], Meta(description="patterns (`*.wal`) of file names, or of paths from the directory; empty: all")
    ] = []
    mounts_of: Annotated[
        target.ProcessSpec | None, Meta(description="the process whose mount namespace is meant; null: the agent's")
    ] = None


class FileFault(HeldFault):
    """A fault adds its rule (errno or delay), what the trial must see, and its page."""

    kind: ClassVar[str]
    grip: ClassVar[str] = "files"
    undo: ClassVar[Undo] = Undo.GUARDIAN

    def missing(self) -> str:
        lacks = [] if has_capability(_CAP_SYS_ADMIN) else ["root (CAP_SYS_ADMIN)"]
        try:
            os.close(os.open(fuse.DEVICE, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            lacks.append(f"{fuse.DEVICE} ({error.strerror}: modprobe fuse)")
        return ", ".join(lacks)

    def effect(self, spec: FileSpec, description: str, **rule: Any) -> Effect:
        """The effect on the directory that *spec* means here and now; SpecError when it is none."""
        facts = _directory(spec)
        ending = f", files {', '.join(spec.names)}" if spec.names else ""
        share = f" of {spec.fraction:g} of" if spec.fraction < 1 else " of"
        root = [msgspec.convert(facts["root"], proc.Identity)] if facts["root"] else []
        one = Effect(
            fault=self.kind,
            resource=f"path:{facts['namespace_inode']}:{facts['path']}",
            description=f"{description}{share} {', '.join(spec.operations)} in {facts['path']}{ending}",
            undo=self.undo,
            touches=Touched(paths=[facts["path"]] if facts.pop("ours") else [], processes=root),
            facts={
                **facts, "operations": sorted(set(spec.operations)), "fraction": spec.fraction, "names": spec.names,
                "attempts": min(_ATTEMPTS_MAX, math.ceil(6 / spec.fraction)), **rule,
            },
        )  # fmt: skip
        one.facts["source"] = f"blackstart_{one.id}"
        return one

    async def inject(self, effect: Effect) -> Injected:
        report = await self._engage(effect)
        effect.facts["server"] = report["server"]
        return Injected(report["lo_ns"], report["hi_ns"])

    async def trial(self, effect: Effect, until_ms: float, timeout_s: float) -> dict[str, list[list[float]]]:
        """What another process meets in the mount's scratch directory, operation by operation."""
        facts = effect.facts
        question = {
            "namespace": facts["namespace"], "folder": f"{facts['path']}/.{facts['source']}{SCRATCH_SUFFIX}",
            "operations": facts["operations"], "attempts": facts["attempts"], "until_ms": until_ms,
        }  # fmt: skip
        return await file_trial.look(question, timeout_s)

    async def revert(self, effect: Effect) -> None:
        await super().revert(effect)
        facts = effect.facts
        if self.residue(effect):  # the server is dead, or hangs
            with contextlib.suppress(OSError):  # the audit says what is in the way
                await asyncio.to_thread(mountspace.detach, facts["source"], facts["namespace_inode"])
            for server in _servers(facts["source"]):
                if server.name != IDLE:
                    process.send(server, signal.SIGKILL)
            await self._settled(effect)

    def _left(self, effect: Effect) -> list[str]:
        facts = effect.facts
        mounts = _mounts(facts)
        left = []
        if any(one.source == facts["source"] for one in mounts):
            problem = mountspace.obstacle(facts["source"], mounts)
            left.append(f"{facts['source']} is still mounted on {facts['path']}{f': {problem}' if problem else ''}")
        left += [f"its server (pid {one.pid}) still runs" for one in _servers(facts["source"]) if one.name != IDLE]
        return left

    def remedy(self, effect: Effect) -> str:
        facts = effect.facts
        inside = ""
        if facts["namespace"] and (pid := _pid(facts)):
            inside = f"nsenter --target {pid} --mount "
        return "; ".join(filter(None, (super().remedy(effect), f"{inside}umount --lazy {facts['path']}")))


def _pid(facts: dict[str, Any]) -> int | None:
    """A process in the mount namespace of the effect: the planned one if it is there, else any."""
    if not facts["namespace"]:
        return os.getpid() if mountspace.identity() == facts["namespace_inode"] else None
    with contextlib.suppress(OSError):
        if mountspace.identity(facts["namespace"]) == facts["namespace_inode"]:
            return int(facts["root"]["pid"])
    return mountspace.inhabitant(facts["namespace_inode"])


def _mounts(facts: dict[str, Any]) -> list[Mount]:
    pid = _pid(facts)
    return mountspace.listing(pid) if pid else []


def _servers(source: str) -> list[proc.Identity]:
    """The processes that serve the mount of that source: more than the facts of an intent can tell."""
    found = [pid for pid in proc.pids() if proc.command_line(pid).endswith(f"{_SERVER} {source}")]
    return [identity for pid in found if (identity := proc.identify(pid))]


def _directory(spec: FileSpec) -> dict[str, Any]:
    """Path, namespace, device and inode, as they are now."""
    roots = target.resolve(spec.mounts_of) if spec.mounts_of else []
    if len(roots) > 1:
        raise SpecError(Problem("spec.mounts_of", f"means {len(roots)} processes: name one"))
    root = roots[0] if roots else None
    namespace = f"/proc/{root.pid}/ns/mnt" if root else ""
    foreign = bool(namespace) and mountspace.identity(namespace) != mountspace.identity()
    path, seen = _real(spec.path, root if foreign else None)
    found = os.stat(seen, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise SpecError(Problem("spec.path", f"{path} is no directory"))
    if not foreign and (own := [str(one) for one in _needed() if is_below(str(one), path)]):
        raise RefusedError(f"{path} holds {own[0]}, without which nothing here could be undone")
    mount = mountspace.under(path, mountspace.listing(root.pid if root else "self"))
    return {
        "path": path, "namespace": namespace if foreign else "",
        "namespace_inode": mountspace.identity(namespace or mountspace.OWN),
        "root": msgspec.to_builtins(root) if root and foreign else None,
        "directory": [found.st_dev, found.st_ino],
        "ours": not foreign or bool(mount and mount.shared),  # shared: mounted there, it appears here too
    }  # fmt: skip


def _real(path: str, root: proc.Identity | None) -> tuple[str, str]:
    """The directory without links, and where this process sees it; in another namespace links are not followed."""
    if root is None:
        real = os.path.realpath(path)
        if not Path(real).exists():
            raise SpecError(Problem("spec.path", f"there is no {path}"))
        return real, real
    path = os.path.normpath(path)
    seen = f"/proc/{root.pid}/root"
    for part in path.strip("/").split("/"):
        seen = f"{seen}/{part}"
        if Path(seen).is_symlink():
            raise SpecError(Problem("spec.path", f"{part} in {path} is a link", "name the directory that it leads to"))
    if not Path(seen).exists():
        raise SpecError(Problem("spec.path", f"there is no {path} in the mount namespace of pid {root.pid}"))
    return path, seen


def _needed() -> list[Path]:
    """What holders, servers and guardians are started from."""
    package = Path(__file__).resolve().parents[1]
    return [package, *(Path(one).resolve() for one in (sys.prefix, sys.base_prefix, sys.executable, "/proc"))]
