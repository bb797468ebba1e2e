"""Targets of `pod.*` and of the kubelet, without Kubernetes: what they look like on a node."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from agent.system import proc
from tests.chaos.case import Case, end, subject, wait_until
from tests.chaos.subject import network

LOGS = Path("/var/log/pods")
LINKS = Path("/var/log/containers")
GROUPS = Path("/sys/fs/cgroup/pids")  # of version 1; where there is none, version 2 is mounted above


def program_name() -> str:
    """Of the process that stands in for a kubelet: another test process may run one beside it."""
    return f"kubl-{os.getpid()}"[:15]


def missing() -> str:
    if told := network.missing():
        return told
    return "" if os.access(_groups(), os.W_OK) else f"a control group that can be made below {_groups()}"


def _groups() -> Path:
    return GROUPS if GROUPS.is_dir() else GROUPS.parent


@contextlib.contextmanager
def pod(namespace: str, name: str, sandbox: int | None, **containers: int) -> Iterator[None]:
    """These processes are a pod, for whoever looks at control groups and at the kubelet's folders.

    *sandbox*: None where the runtime does without one.
    *containers*: by name, started after the sandbox.
    """
    members = ({} if sandbox is None else {"": sandbox}) | containers
    uid, ids = str(uuid.uuid4()), {one: secrets.token_hex(32) for one in members}
    place = _groups() / f"kubepods-{name}" / f"pod{uid}"
    folders = [LOGS, LINKS, LOGS / f"{namespace}_{name}_{uid}"]
    made = [one for one in folders if not one.exists()]
    links = [LINKS / f"{name}_{namespace}_{one}-{ids[one]}.log" for one in containers]
    for one in folders:
        one.mkdir(parents=True, exist_ok=True)
    for one in links:
        one.touch()
    for one, pid in members.items():
        (place / ids[one]).mkdir(parents=True)
        (place / ids[one] / "cgroup.procs").write_text(str(pid), encoding="ascii")
    try:
        yield
    finally:
        for pid in members.values():
            with contextlib.suppress(OSError, ProcessLookupError):
                (_groups() / "cgroup.procs").write_text(str(pid), encoding="ascii")
        for one in links:
            one.unlink()
        for one in [*reversed(made), *(place / id_ for id_ in ids.values()), place, place.parent]:
            with contextlib.suppress(OSError):
                one.rmdir()


@subject("pod.partition", missing=missing)
def partition() -> Iterator[Case]:
    name = f"test-{secrets.token_hex(4)}"
    with network.namespace() as process, pod("shop", name, process.pid):
        yield Case(
            "pod.partition", {"namespace": "shop", "name": name[:-1] + "?", "peers": ["127.0.0.7"]},
            lambda: {"rules": network.rules(process)}, in_force=lambda: "blackstart" in network.rules(process),
            vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip


@subject("pod.container_kill", missing=missing)
def container_kill() -> Iterator[Case]:
    name = f"test-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        sandbox, main, side = (stack.enter_context(sleeping()) for _ in range(3))
        stack.enter_context(pod("shop", name, sandbox.pid, main=main.pid, side=side.pid))
        yield Case(
            "pod.container_kill", {"namespace": "shop", "name": name[:-1] + "?", "container": "ma*"},
            lambda: {"others": [one.poll() for one in (sandbox, side)], "alive": main.poll() is None},
            vanish=lambda: (main.kill(), main.wait(), None)[-1], spent=frozenset({"alive"}),
        )  # fmt: skip


@contextlib.contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        end(process)


@subject("node.stop_kubelet")
def kubelet() -> Iterator[Case]:
    with tempfile.TemporaryDirectory(prefix="blackstart-test-") as folder:
        name = program_name()
        program = Path(folder) / name
        shutil.copy2("/bin/sleep", program)
        process = subprocess.Popen([str(program), "600"])
        wait_until(lambda: (proc.stat(process.pid) or (None,))[0] == name, 5.0)

        def stopped() -> bool:
            one = proc.identify(process.pid)
            return one is not None and proc.is_stopped(one)

        try:
            yield Case(
                "node.stop_kubelet", {"program": name},
                lambda: {"stopped": stopped(), "alive": proc.identify(process.pid) is not None},
                in_force=stopped, vanish=lambda: (process.kill(), process.wait(), None)[-1],
            )  # fmt: skip
        finally:
            end(process)
