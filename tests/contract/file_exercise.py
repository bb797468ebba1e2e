# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH106, PTH108, PTH115, PTH211, SIM115
"""What a program can do to files, step by step, with what became of each: `python file_exercise.py FOLDER`.

Run in a plain directory and in one under a pass-through, it must print the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import sqlite3
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS: list[tuple[str, Callable[[], Any]]] = []


def step(work: Callable[[], Any]) -> Callable[[], Any]:
    STEPS.append((work.__name__, work))
    return work


def python(script: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = ["/usr/bin/env", "python3", "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


@step
def content() -> Any:
    file = Path("a")
    file.write_bytes(b"hello")
    with file.open("ab") as more:
        more.write(b" world")
    os.truncate("a", 7)
    big = os.urandom(600_001)
    Path("big").write_bytes(big)
    return file.read_bytes().decode(), Path("big").read_bytes() == big, Path("big").stat().st_size


@step
def names() -> Any:
    os.rename("a", "b")
    os.link("b", "c")
    os.symlink("b", "s")
    os.makedirs("p/q/r")
    os.mkdir("d", 0o750)
    os.rename("p/q", "d/q")
    os.mkfifo("fifo")
    os.mknod("null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    same = os.stat("b").st_ino == os.stat("c").st_ino
    return same, os.readlink("s"), os.lstat("s").st_size, sorted(os.listdir(".")), sorted(os.listdir("d")), kinds()


def kinds() -> list[str]:
    return [f"{name} {os.lstat(name).st_mode:o} {os.lstat(name).st_nlink}" for name in sorted(os.listdir("."))]


@step
def errors() -> Any:
    found = []
    for work in (
        lambda: os.rmdir("d"), lambda: os.mkdir("d"), lambda: os.unlink("none"), lambda: os.open("none", os.O_RDONLY),
        lambda: os.open("b", os.O_CREAT | os.O_EXCL), lambda: os.open("x" * 256, os.O_CREAT),
        lambda: os.getxattr("b", "user.none"), lambda: os.rename("d", "d/q/r"), lambda: os.listdir("b"),
    ):  # fmt: skip
        try:
            work()
        except OSError as error:
            found.append(error.errno)
    return found


@step
def owners_modes_times() -> Any:
    os.chmod("b", 0o4755)
    os.chown("b", 1234, 2345)
    os.lchown("s", 12, 13)
    os.utime("b", ns=(-5 * 10**9, 10**18 + 7))
    found = os.stat("b")
    return found.st_uid, found.st_gid, oct(found.st_mode), found.st_atime_ns, found.st_mtime_ns, os.lstat("s").st_uid


@step
def attributes() -> Any:
    os.setxattr("b", "user.k", b"value")
    listed = os.listxattr("b")
    value = os.getxattr("b", "user.k").decode()
    os.removexattr("b", "user.k")
    return listed, value, os.listxattr("b")


@step
def unlinked_while_open() -> Any:
    file = os.open("u", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(file, b"x" * 10)
    os.unlink("u")
    os.write(file, b"y")
    os.fchmod(file, 0o640)
    read = os.pread(file, 99, 0).decode()
    os.ftruncate(file, 2)
    found = os.fstat(file)
    os.close(file)
    return read, found.st_nlink, found.st_size, oct(found.st_mode), [name for name in os.listdir(".") if name[0] == "."]


@step
def renamed_over_while_open() -> Any:
    Path("one").write_text("1")
    Path("two").write_text("2")
    with open("two") as file:
        os.rename("one", "two")
        return file.read(), Path("two").read_text()


@step
def holes() -> Any:
    file = os.open("sparse", os.O_RDWR | os.O_CREAT)
    os.pwrite(file, b"z", 1 << 20)
    found = os.lseek(file, 0, os.SEEK_DATA), os.lseek(file, 0, os.SEEK_HOLE)
    os.posix_fallocate(file, 0, 1 << 21)
    size = os.fstat(file).st_size
    os.close(file)
    return found, size


@step
def mapped() -> Any:
    Path("m").write_bytes(bytes(8192))
    file = os.open("m", os.O_RDWR)
    with mmap.mmap(file, 8192) as view:
        view[0:5] = b"mmap!"
        view.flush()
        read = os.pread(file, 5, 0).decode()
        os.pwrite(file, b"Q", 1)
        seen = view[0:5].decode()
    os.close(file)
    return read, seen, Path("m").read_bytes()[:5].decode()


@step
def many_names() -> Any:
    os.mkdir("many")
    for at in range(1200):
        Path(f"many/f{at}").touch()
    found = sorted(entry.name for entry in os.scandir("many") if entry.is_file())
    for name in found:
        os.unlink(f"many/{name}")
    os.rmdir("many")
    return len(found)


@step
def nameless() -> Any:
    file = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(file, b"tmp")
    os.link(f"/proc/self/fd/{file}", "named", follow_symlinks=True)
    os.close(file)
    return Path("named").read_text()


@step
def appended_by_three() -> Any:
    script = (
        "import os\nf = os.open('app', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "for _ in range(99): os.write(f, b'line\\n')"
    )
    for child in [python(script) for _ in range(3)]:
        child.communicate()
    return Path("app").read_bytes() == b"line\n" * 297


@step
def locks() -> Any:
    script = (
        "import fcntl, sys\nf = open('b', 'r+')\n"
        "try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, int(sys.argv[1])); print('got')\n"
        "except OSError as error: print(error.errno)"
    )
    first, second = open("b", "r+"), open("b", "r+")
    fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
    fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
    found = [python(script, at).communicate()[0] for at in ("0", "20")]
    second.close()  # which drops the locks of the whole process
    found.append(python(script, "0").communicate()[0])
    fcntl.lockf(first, fcntl.LOCK_EX)
    waiter = python(
        "import fcntl, time; f = open('b', 'r+'); at = time.time(); fcntl.lockf(f, fcntl.LOCK_EX);"
        "print(time.time() - at > 0.1)"
    )
    time.sleep(0.4)  # the waiter is to wait: how long, it says itself
    fcntl.lockf(first, fcntl.LOCK_UN)
    found.append(waiter.communicate()[0])
    fcntl.flock(first, fcntl.LOCK_EX)
    with open("b") as third, contextlib.suppress(BlockingIOError):
        fcntl.flock(third, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found.append("not excluded")
    first.close()
    return found


@step
def a_wait_for_a_lock_is_interrupted() -> Any:
    script = (
        "import fcntl, signal\nsignal.signal(signal.SIGALRM, lambda *_: 1 / 0)\nsignal.setitimer(0, 0.2)\n"
        "f = open('b', 'r+')\ntry: fcntl.lockf(f, fcntl.LOCK_EX)\nexcept ZeroDivisionError: print('interrupted')"
    )
    with open("b", "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        return python(script).communicate(timeout=10)[0]


@step
def database() -> Any:
    one, other = sqlite3.connect("db"), sqlite3.connect("db")
    one.execute("pragma journal_mode = wal")
    one.execute("create table t (n)")
    one.executemany("insert into t values (?)", [(n,) for n in range(100)])
    one.commit()
    found = other.execute("select sum(n) from t").fetchone()[0], one.execute("pragma integrity_check").fetchone()[0]
    one.close()
    other.close()
    return found


@step
def another_user() -> Any:
    os.mkdir("pub")
    os.chmod("pub", 0o1777)
    os.mkdir("team")
    os.chown("team", 0, 777)
    os.chmod("team", 0o2777)
    Path("secret").touch()
    os.chmod("secret", 0o600)
    script = """
import os
os.umask(0o27)
for d in ("pub", "team"):
    open(d + "/f", "w").close(); os.mkdir(d + "/d"); os.symlink("x", d + "/l"); os.mkfifo(d + "/p")
    os.close(os.open(d + "/set", os.O_CREAT | os.O_WRONLY, 0o6755))
for work in (lambda: open("secret"), lambda: open("new", "w"), lambda: os.chmod("secret", 0o777)):
    try: work()
    except PermissionError: print("denied")
"""
    said = python(script, user=1001, group=1002, extra_groups=[]).communicate()[0]
    made = [f"{d}/{name}" for d in ("pub", "team") for name in ("f", "d", "l", "p", "set")]
    return said, [(name, oct(os.lstat(name).st_mode), os.lstat(name).st_uid, os.lstat(name).st_gid) for name in made]


@step
def access_lists() -> Any:
    rows = ((1, 7, -1), (2, 7, 4242), (4, 0, -1), (16, 7, -1), (32, 0, -1))
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *row) for row in rows)
    os.mkdir("acl")
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        os.setxattr("acl", name, value)
    script = "import os; os.umask(0o77); open('acl/f', 'w').write('hi'); print(oct(os.stat('acl/f').st_mode))"
    said = python(script, user=4242, group=4242, extra_groups=[]).communicate()[0]
    other = python("open('acl/f')", user=4243, group=4243, extra_groups=[], stderr=subprocess.DEVNULL)
    other.communicate()
    return said, other.returncode


@step
def programs() -> Any:
    Path("run.sh").write_text("#!/bin/sh\necho ran\n")
    os.chmod("run.sh", 0o755)
    script = "cp /bin/true ./true && ./true && ./run.sh && tar cf - d | tar xf - -C pub && diff -r d pub/d && echo same"
    return subprocess.run(script, shell=True, capture_output=True, text=True, check=False).stdout


@step
def space() -> Any:
    found, source = os.statvfs("."), os.open("big", os.O_RDONLY)
    copied = os.copy_file_range(source, os.open("copy", os.O_WRONLY | os.O_CREAT), 100_000)
    same = Path("copy").read_bytes() == Path("big").read_bytes()[:100_000]
    return found.f_bsize, found.f_namemax, found.f_blocks, copied, same


def main() -> None:
    os.chdir(sys.argv[1])
    found = {}
    for name, work in STEPS:
        try:
            found[name] = work()
        except Exception as error:  # noqa: BLE001 compared like all else
            found[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
