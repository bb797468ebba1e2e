"""What a host of the test services mounts for itself, as commands that it carries out.

Invariant: all of it belongs to the host's own mount namespace, and goes with the host.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN: Final = """
set -e
mount --bind {table} /etc/hosts
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
"""
# Where it is a link into /run, as systemd-resolved has it, what it points to has just been covered.
_RESOLVER: Final = """
place=$(readlink -m /etc/resolv.conf)
case "$place" in /run/*) mkdir -p "$(dirname "$place")"; touch "$place";; esac
mount --bind {named} "$place"
"""
# Nothing but the mount holds the loop device: the kernel frees it with the host, and the file keeps what was written.
_DISK: Final = """
if [ ! -e {image} ]; then
  truncate -s {size_mb}M {image}.new
  mkfs.ext4 -q -F -m 0 {image}.new
  mv {image}.new {image}
fi
mount -o loop,noatime {image} {folder}
chmod 777 {folder}
"""


def own(state: Path, name: str, addresses: Mapping[str, str], resolver: str | None) -> str:
    """The host's names of the others, its /run, its shared memory and, where one host is *resolver*, its resolver."""
    table = state / f"hosts-{name}.txt"
    rows = ["127.0.0.1 localhost", f"{addresses[name]} self", *(f"{at} {one}" for one, at in addresses.items())]
    table.write_text("\n".join([*rows, ""]), encoding="utf-8")
    script = _OWN.format(table=shlex.quote(str(table)))
    if resolver is None:
        return script
    named = state / "resolv.conf"
    named.write_text(f"nameserver {addresses[resolver]}\noptions timeout:1 attempts:2\n", encoding="utf-8")
    return script + _RESOLVER.format(named=shlex.quote(str(named)))


def disk(image: Path, folder: Path, size_mb: int) -> str:
    """A disk of the host's own over *folder*: the file system in *image*, made at first use, and sparse."""
    return _DISK.format(image=shlex.quote(str(image)), folder=shlex.quote(str(folder)), size_mb=size_mb)


def at(what: Path, place: str) -> str:
    """*what* is found at *place*, too."""
    return f"mount --bind {shlex.quote(str(what))} {place}\n"


def lacking_for_disks() -> list[str]:
    """What this machine lacks for disks of hosts."""
    found = [] if shutil.which("mkfs.ext4") else ["mkfs.ext4"]
    return found if Path("/dev/loop-control").exists() else [*found, "a kernel with loop devices"]
