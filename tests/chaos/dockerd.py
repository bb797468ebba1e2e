"""A Docker daemon of the tests' own, shared by all test processes of this user, ended when nobody uses it.

`socket()` returns its address and starts it if it is not there. A *keeper* (`python -m tests.chaos.dockerd FOLDER`)
runs it in namespaces of its own, so that the machine's network and mounts stay as they are. Who uses the daemon holds a
shared lock on a file until it ends, however it ends; a keeper that can have the lock for itself ends the daemon, every
container with it, and removes the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

IMAGE: Final = "blackstart-test:1"
_FOLDER: Final = Path(f"/tmp/blackstart-dockerd-{os.getuid()}")
_START_S: Final = 30.0
_IDLE_S: Final = 4.0
_BUSYBOX: Final = Path("/usr/bin/busybox")
_locks: list[int] = []  # held until this process ends


@functools.cache
def missing() -> str:
    """Why there can be no daemon here; starts none."""
    if os.getuid():
        return "needs root"
    if not shutil.which("dockerd") or not shutil.which("unshare"):
        return "install docker.io and util-linux"
    if not _BUSYBOX.exists() or b"statically" not in _kind(_BUSYBOX):
        return "install busybox-static"
    try:
        import docker  # noqa: F401
    except ImportError:
        return "install the Python package docker"
    return _unable()


def _kind(path: Path) -> bytes:
    """A static program names no loader."""
    return b"statically" if b"/ld-linux" not in path.read_bytes()[:4096] else b""


@functools.cache
def _unable() -> str:
    try:
        socket()
    except (OSError, RuntimeError) as error:
        return f"dockerd does not start here: {error}"
    return ""


@functools.cache
def socket() -> str:
    """The daemon's address, as DOCKER_HOST has it; the daemon lives at least as long as this process."""
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    with _starting(_FOLDER):
        _FOLDER.mkdir(mode=0o700, exist_ok=True)
        users = os.open(_FOLDER / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(users, fcntl.LOCK_SH)
        _locks.append(users)
        if not _answers():
            (_FOLDER / "ready").unlink(missing_ok=True)
            _await_ready(_spawn())
        return f"unix://{_FOLDER}/sock"


@contextlib.contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """One at a time starts or ends the daemon; the lock's file stays, so that all mean the same one."""
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _spawn() -> subprocess.Popen[bytes]:
    with (_FOLDER / "keeper.log").open("ab") as log:
        return subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation=private",
             sys.executable, "-m", "tests.chaos.dockerd", str(_FOLDER)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=Path(__file__).parents[2],
            env={**os.environ, "BLACKSTART_TEST": "daemon"},
        )  # fmt: skip


def _await_ready(keeper: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while not (_FOLDER / "ready").exists():
        if keeper.poll() is not None or time.monotonic() > until:
            tail = (_FOLDER / "keeper.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(" ".join(tail) or "its keeper died")
        time.sleep(0.05)
    keeper.returncode = 0  # it outlives this process, and nobody waits for it


def _answers() -> bool:
    return (_FOLDER / "ready").exists() and _alive(_FOLDER / "pid")


def _alive(path: Path) -> bool:
    try:
        return Path(f"/proc/{path.read_text().strip()}/stat").exists()
    except OSError:
        return False


def keep(folder: Path) -> None:
    """What the keeper runs."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    command = [
        "dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--host=unix://{folder}/sock",
        f"--pidfile={folder}/pid", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--log-level=error",
    ]  # fmt: skip
    daemon = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command])
    try:
        _import_image(f"unix://{folder}/sock", daemon)
    except BaseException:
        daemon.kill()
        daemon.wait()
        raise
    (folder / "ready").touch()
    _until_idle(folder, daemon)


def _import_image(host: str, daemon: subprocess.Popen[bytes]) -> None:
    import docker

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(_BUSYBOX, "bin/busybox")
        for name in ("sh", "sleep", "cat", "ip", "trap"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    until = time.monotonic() + _START_S
    while True:
        try:
            with contextlib.closing(docker.DockerClient(base_url=host, timeout=20)) as client:
                repository, _, tag = IMAGE.partition(":")
                client.api.import_image_from_data(content.getvalue(), repository=repository, tag=tag)
            return
        except docker.errors.DockerException:
            if daemon.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)


def _until_idle(folder: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Returns when nobody has used the daemon for a while, and it has ended."""
    users = os.open(folder / "users", os.O_RDWR | os.O_CLOEXEC)
    idle_since = time.monotonic()
    while daemon.poll() is None:
        time.sleep(0.25)
        with _starting(folder):
            if _is_used(users):
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _IDLE_S:
                _end(folder, daemon)


def _is_used(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(users, fcntl.LOCK_UN)
    return False


def _end(folder: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Under the lock: whoever comes now waits, and starts another."""
    import docker

    (folder / "ready").unlink(missing_ok=True)
    try:
        with contextlib.closing(docker.DockerClient(base_url=f"unix://{folder}/sock", timeout=20)) as client:
            for container in client.containers.list(all=True):
                container.remove(force=True)
    except docker.errors.DockerException as error:
        print(error, file=sys.stderr)
    daemon.terminate()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
