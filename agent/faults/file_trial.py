"""Whether operations on files fail or are slow: the independent look at a `file.*` fault, in a process of its own.

`python -m agent.faults.file_trial` reads {namespace, folder, operations, attempts, until_ms} and writes one JSON line:
{operation: [[errno, latency in ms], …]}. It knows nothing of mounts and rules: it calls the kernel, in the target's
mount namespace, on files in *folder*, and stops trying an operation once it has failed or taken until_ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from agent.system import mountspace

_BLOCK: Final = b"x" * 512


async def look(question: dict[str, Any], timeout_s: float) -> dict[str, list[list[float]]]:
    """What became of each operation; empty when the process did not answer in time."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "agent.faults.file_trial",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(child.communicate(json.dumps(question).encode()), timeout_s)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        return {}
    answer: dict[str, list[list[float]]] = json.loads(output) if child.returncode == 0 else {}
    return answer


def main() -> None:
    question: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    if question["namespace"]:
        mountspace.enter(question["namespace"])
    _try_all(question)


def _try_all(question: dict[str, Any]) -> None:
    answers: dict[str, list[list[float]]] = {}

    def run(operation: str) -> None:
        answers[operation] = _try(_WAYS[operation], question)

    threads = [threading.Thread(target=run, args=(operation,)) for operation in question["operations"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(answers), flush=True)


def _try(way: Callable[[str, int], tuple[Callable[[], Any], Callable[[], None]]], question: dict[str, Any]) -> Any:
    """Errno and latency of each attempt, until one shows the fault; getting ready for one is not counted."""
    seen: list[list[float]] = []
    for at in range(question["attempts"]):
        try:
            act, tidy = way(question["folder"], at)
        except OSError:
            continue  # another operation that is under the same fault
        number, started = 0, time.monotonic_ns()
        try:
            act()
        except OSError as error:
            number = error.errno or 0
        took_ms = (time.monotonic_ns() - started) / 1e6
        with contextlib.suppress(OSError):
            tidy()
        seen.append([number, round(took_ms, 3)])
        if number or took_ms >= question["until_ms"]:
            break
    return seen


def _on_probe(flags: int, act: Callable[[int], Any]) -> Callable[[str, int], Any]:
    """An operation on an open file."""

    def way(folder: str, _: int) -> Any:
        file = os.open(f"{folder}/probe", flags)
        return (lambda: act(file)), (lambda: os.close(file))

    return way


def _on_path(act: Callable[[str, int], Any]) -> Callable[[str, int], Any]:
    """An operation on a name."""
    return lambda folder, at: ((lambda: act(folder, at)), (lambda: None))


def _open(folder: str, _: int) -> None:
    _opened(f"{folder}/probe", os.O_RDONLY)


def _open_write(folder: str, _: int) -> None:
    _opened(f"{folder}/probe", os.O_RDWR)


def _opened(path: str, flags: int) -> None:
    file = os.open(path, flags)
    with contextlib.suppress(OSError):
        os.close(file)


def _create(folder: str, at: int) -> None:
    file = os.open(f"{folder}/create{at}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with contextlib.suppress(OSError):
        os.close(file)


def _close(folder: str, _: int) -> Any:
    file = os.open(f"{folder}/probe", os.O_RDWR)
    return (lambda: os.close(file)), (lambda: None)


_WAYS: Final[dict[str, Callable[[str, int], Any]]] = {
    "open": _on_path(_open),
    "open_write": _on_path(_open_write),
    "read": _on_probe(os.O_RDONLY, lambda file: os.pread(file, 512, 0)),
    "write": _on_probe(os.O_WRONLY, lambda file: os.pwrite(file, _BLOCK, 0)),
    "fsync": _on_probe(os.O_WRONLY, os.fsync),
    "create": _on_path(_create),
    "unlink": _on_path(lambda folder, at: os.unlink(f"{folder}/unlink{at}")),  # noqa: PTH108
    "rename": _on_path(lambda folder, at: os.rename(f"{folder}/rename{at}", f"{folder}/renamed{at}")),  # noqa: PTH104
    "truncate": _on_path(lambda folder, _: os.truncate(f"{folder}/probe", 4096)),
    "list": _on_path(lambda folder, _: os.listdir(folder)),
    "setattr": _on_path(lambda folder, _: os.chmod(f"{folder}/probe", 0o600)),  # noqa: PTH101
    "close": _close,
}


if __name__ == "__main__":
    main()
