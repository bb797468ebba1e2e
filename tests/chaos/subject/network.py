"""Targets of `network.*`: network namespaces of their own, named by a process that sleeps in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from tests.chaos.case import Case, end, line, subject


def missing() -> str:
    if os.getuid():
        return "needs root"
    return "" if shutil.which("nft") and shutil.which("nsenter") else "install nftables and util-linux"


@contextlib.contextmanager
def namespace() -> Iterator[subprocess.Popen[bytes]]:
    """A network namespace with its loopback up, as long as the process lives."""
    script = "ip link set lo up; echo ready; exec sleep 600"
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE)
    line(process)
    try:
        yield process
    finally:
        end(process)


def inside(process: subprocess.Popen[bytes], *command: str) -> str:
    """The output of a command run in the namespace; empty when the namespace is gone."""
    if process.poll() is not None:
        return ""
    command = ("nsenter", f"--net=/proc/{process.pid}/ns/net", *command)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rules(process: subprocess.Popen[bytes]) -> str:
    return inside(process, "nft", "list", "ruleset")


@subject("network.partition", missing=missing)
def partition() -> Iterator[Case]:
    with namespace() as process:
        yield Case(
            "network.partition", {"peers": ["127.0.0.7"], "network_of": {"pid": process.pid}},
            lambda: {"rules": rules(process)}, in_force=lambda: "blackstart" in rules(process),
            vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip


def _on_rules(kind: str, **spec: Any) -> Iterator[Case]:
    with namespace() as process:
        yield Case(
            kind, {"network_of": {"pid": process.pid}, **spec}, lambda: {"rules": rules(process)},
            in_force=lambda: "blackstart" in rules(process), vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip


@subject("network.loss", missing=missing)
def loss() -> Iterator[Case]:
    yield from _on_rules("network.loss", peers=["127.0.0.7"], direction="in", loss_fraction=0.3)


@subject("network.port_block", missing=missing, variants={"reject": {"action": "reject"}})
def port_block() -> Iterator[Case]:
    yield from _on_rules("network.port_block", ports=[8080])
