"""Programs that no distribution packages, built by Go from pinned modules, once, into the user's cache.

Invariant: what stands in the cache is whole, and of exactly the sources in its folder; an interruption leaves nothing
but Go's own cache, and no compiler that goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blackstart.progress import progress
from protos.error import BlackstartError

_HALF: Final = ".half-"


@dataclass(frozen=True, slots=True)
class Module:
    """A folder with a go.mod. *programs*: name -> package in it, or pinned by it; *kept_in*: a folder of the cache.

    *how*: what a user does to have it built.
    """

    folder: Path
    programs: Mapping[str, str]
    kept_in: str
    how: str
    stamps: Mapping[str, str] = field(default_factory=dict)  # package.variable -> value, set by the linker
    cgo: bool = True

    @property
    def name(self) -> str:
        return self.folder.name

    def place(self) -> Path:
        """The folder of the programs of these very sources, once they are built."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return home / "blackstart" / self.kept_in / f"{self.name}-{digest.hexdigest()[:16]}"

    def missing(self) -> str:
        """Empty where the programs are there, else what to do about it."""
        if all(os.access(self.place() / program, os.X_OK) for program in self.programs):
            return ""
        if shutil.which("go"):
            return f"{self.how} once, with a network"
        found = re.search(r"(?m)^go (\d+\.\d+)", (self.folder / "go.mod").read_text(encoding="utf-8"))
        return f"install Go {found[1] if found else ''} or later and {self.how}"

    def build(self) -> Path:
        """The folder of the programs, built if they are not there yet.

        Raises:
            BlackstartError: they cannot be built here, in Go's words.
        """
        target = self.place()
        if not self.missing():
            return target
        if not shutil.which("go"):
            raise BlackstartError(f"{self.name} is not built: {self.missing()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in target.parent.glob(f"{_HALF}*"):  # of a build that was killed
                shutil.rmtree(left, ignore_errors=True)
            if self.missing():
                self._compile(target)
        return target

    def _compile(self, target: Path) -> None:
        print(f"building {self.name}, once: a few minutes on two cores", flush=True)
        begun_s = time.monotonic()
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=_HALF) as half:
            for _ in self._lines(["mod", "download", "-x"], "modules", 0):
                pass
            packages = list(self.programs.values())
            wanted = sum(1 for _ in self._lines(["list", "-deps", *packages], "packages listed", 0))
            flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.stamps.items())])
            made = Path(half) / target.name
            made.mkdir()
            for program, package in self.programs.items():
                command = ["build", "-v", "-trimpath", f"-ldflags={flags}", "-o", str(made / program), package]
                for _ in self._lines(command, f"packages of {program}", wanted):
                    pass
            if target.is_dir():
                shutil.rmtree(target)  # what is there is not whole
            target.unlink(missing_ok=True)
            made.rename(target)
        print(f"built {self.name} in {time.monotonic() - begun_s:.0f} s: {target}", flush=True)

    def _lines(self, command: list[str], what: str, most: int) -> Iterator[str]:
        """What Go prints, told as progress; BlackstartError with its last words where it fails."""
        last: list[str] = []
        environment = {**os.environ, "GOWORK": "off", **({} if self.cgo else {"CGO_ENABLED": "0"})}
        with _running(["go", *command], self.folder, environment) as process, progress() as tell:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout, 1):
                if " " in line and not line.startswith(("go: downloading", "# get")):  # not the name of a package
                    last = [*last[-9:], line.rstrip()]
                tell(f"{self.name}: {count}{f' of at most {most}' if most else ''} {what}, {line.strip()[:60]}")
                yield line
            if process.wait() != 0:
                raise BlackstartError(f"{self.name} cannot be built:\n  " + "\n  ".join(last))


@contextmanager
def _running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """In a process group of its own, which ends with the block: compilers, too."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
