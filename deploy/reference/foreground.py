"""Runs one part of a farm in the foreground: checks, starts, waits until it serves, and takes everything down again.

Invariant: whatever ends `run`, every process below it is gone when it returns; SIGKILL leaves that to the kernel
(lifeline).
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import keeper
from lifeline import adopt_orphans, write_atomically
from settings import InputError, Settings

if TYPE_CHECKING:
    from types import FrameType
    from typing import TextIO

HELD: Final = 0
FAILED: Final = 3
_READY_WAIT_S: Final = 30.0
_STOP_WAIT_S: Final = keeper.STOP_WAIT_S + 4.0
_TICK_S: Final = 0.05


def run(settings: Settings) -> int:
    """Run until a signal; answers the exit code.

    Raises:
        InputError: the directory or a port cannot be used; nothing was started.
    """
    begun_s = time.monotonic()
    locks = _claim(settings)
    try:
        _check_ports(settings)
        return _Part(settings).run(begun_s)
    finally:
        for lock in locks:
            lock.close()


def ready_file(settings: Settings) -> Path:
    """The file that appears once everything serves: DIR/ready, or DIR/ready-<role> where a host runs one role only."""
    return Path(settings.directory) / ("ready" if settings.part == "farm" else f"ready-{settings.part}")


def _claim(settings: Settings) -> list[TextIO]:
    """Make the folders and lock the roles, so that two farms never write into one directory."""
    locks: list[TextIO] = []
    try:
        for folder in (settings.www, settings.run, settings.log):
            folder.mkdir(parents=True, exist_ok=True)
        for role in settings.roles:
            locks.append((settings.run / f"{role}.lock").open("w"))
            fcntl.flock(locks[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"{settings.directory}: another farm runs here; stop it or give another --dir") from error
    except OSError as error:
        raise InputError(f"{settings.directory}: cannot be used as --dir: {error}") from error
    return locks


def _check_ports(settings: Settings) -> None:
    for name, port in settings.programs().items():
        try:
            family, kind, _, _, address = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                what = f"port {port} of {name} is in use on {settings.host}"
                raise InputError(f"{what}; stop what listens there or give another --port-base") from error
            raise InputError(f"{name} cannot listen on {settings.host}:{port}: {error}; give another --host") from error


class _Part:
    """The keeper and what it keeps."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = ready_file(settings)
        self._stopping = False
        self._keeper: subprocess.Popen[bytes] | None = None

    def run(self, begun_s: float) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        adopt_orphans()
        self._forget()
        print(f"farm: clip: {self._settings.provenance}", flush=True)
        try:
            self._keeper = self._start()
            if not self._wait_until_ready():
                return HELD if self._stopping else FAILED
            self._say_ready(time.monotonic() - begun_s)
            while not self._stopping and self._keeper.poll() is None:
                time.sleep(_TICK_S)
            if not self._stopping:
                print(f"farm: the supervisor ended by itself (status {self._keeper.returncode})", file=sys.stderr)
            return HELD if self._stopping else FAILED
        finally:
            self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _forget(self) -> None:
        """Remove what an earlier farm said about itself."""
        self._ready.unlink(missing_ok=True)
        for name in self._settings.programs():
            (self._settings.run / f"{name}.pid").unlink(missing_ok=True)
            (self._settings.run / f"{name}.starts").unlink(missing_ok=True)

    def _start(self) -> subprocess.Popen[bytes]:
        part, folder = self._settings.part, self._settings.run
        settings_file, configuration = folder / f"settings-{part}.json", folder / f"supervisord-{part}.conf"
        self._settings.save(settings_file)
        write_atomically(configuration, keeper.configuration(self._settings, settings_file).encode())
        with (self._settings.log / f"keeper-{part}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, str(Path(keeper.__file__).resolve()), str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._settings.directory,
                env=os.environ | {"FARM_PARENT": str(os.getpid())},
                start_new_session=True,  # Ctrl-C comes here only
            )

    def _wait_until_ready(self) -> bool:
        """Wait for every program; False if it was stopped first or cannot come up, which is said."""
        assert self._keeper is not None
        until_s = time.monotonic() + _READY_WAIT_S
        waiting = self._checks()
        while waiting:
            waiting = [check for check in waiting if not _is_well(self._settings.host, *check)]
            if self._stopping:
                return False
            if self._keeper.poll() is not None or time.monotonic() > until_s:
                lacking = ", ".join(f":{port}{path}" for port, path in waiting)
                print(f"farm: does not come up: no answer of {lacking}\n{self._log_tails()}", file=sys.stderr)
                return False
            time.sleep(_TICK_S)
        return True

    def _checks(self) -> list[tuple[int, str]]:
        """(port, path) of everything that must answer 200."""
        checks = [(port, "/healthz") for port in self._settings.programs().values()]
        if self._settings.part == "farm":
            channels = range(1, self._settings.workers + 1)
            checks += [(self._settings.port_base, f"/fresh/{channel}") for channel in channels]
        return checks

    def _log_tails(self) -> str:
        """The last lines of what the programs wrote."""
        names = [f"keeper-{self._settings.part}", *self._settings.programs()]
        paths = [path for name in names if (path := self._settings.log / f"{name}.log").exists()]
        return "\n".join(f"{path}: {line}" for path in paths for line in path.read_text().splitlines()[-3:])

    def _say_ready(self, took_s: float) -> None:
        settings, programs = self._settings, self._settings.programs()
        urls = {name: f"http://{settings.host}:{port}" for name, port in programs.items()}
        channels = {str(number): f"/{number}/master.m3u8" for number in range(1, settings.workers + 1)}
        status = {
            "urls": urls,
            "pid_files": {name: str(settings.run / f"{name}.pid") for name in programs},
            "channels": {name: urls["origin"] + path for name, path in channels.items()} if "origin" in urls else {},
            "clip": {"paths": settings.clips, "provenance": settings.provenance},
            "ladder": settings.ladder,
            "fps": settings.fps,
            "segment_s": settings.segment_s,
            "pid": os.getpid(),
            "took_s": round(took_s, 3),
        }
        write_atomically(self._ready, json.dumps(status, indent=1).encode())
        print(
            f"farm: ready after {took_s:.1f} s: {', '.join(f'{name} {url}' for name, url in urls.items())}", flush=True
        )

    def _stop(self) -> None:
        """Take everything down: politely, then by killing the keeper, whose death the kernel passes on."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._ready.unlink(missing_ok=True)
        if self._keeper is not None:
            self._keeper.terminate()
            try:
                self._keeper.wait(_STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
        _reap_all()
        for name in (f"supervisord-{self._settings.part}", *self._settings.programs()):
            (self._settings.run / f"{name}.pid").unlink(missing_ok=True)
        print("farm: stopped", flush=True)


def _is_well(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=1.0)  # noqa: S104
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _reap_all() -> None:
    """Wait for every adopted orphan; the kernel has sent SIGKILL to each."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
