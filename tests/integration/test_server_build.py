"""Servers for tests are built whole or not at all, and anew when their sources change; by a real Go, offline."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from protos.error import BlackstartError
from tests.servers import build

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="install Go (golang-go)")
ROOT = Path(__file__).parents[2]
MAIN = 'package main\n\nimport "os"\n\nfunc main() { os.Stdout.WriteString("here\\n") }\n'


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "HERE", tmp_path)
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "go.mod").write_text("module blackstart.test/tiny\n\ngo 1.18\n")
    (folder / "main.go").write_text(MAIN)
    return folder


def left():
    return sorted(path.name for path in build.place("tiny").parent.parent.iterdir() if path.name != ".lock")


def test_a_server_is_built_once_and_again_when_its_source_changes(source, capsys):
    assert "make servers" in build.missing("tiny")
    first = build.module("tiny").build() / "tiny"
    assert first == build.place("tiny")
    assert subprocess.run([first], capture_output=True, check=True).stdout == b"here\n"
    told = capsys.readouterr().out
    assert build.module("tiny").build() / "tiny" == first
    assert (told.startswith("building tiny"), capsys.readouterr().out) == (True, "")
    (source / "main.go").write_text(MAIN.replace("here", "there"))
    assert build.missing("tiny")
    assert build.module("tiny").build() / "tiny" != first
    assert len(left()) == 2


def test_what_stands_in_the_way_in_the_cache_is_replaced(source):
    del source
    place = build.module("tiny").place()
    place.parent.mkdir(parents=True)
    place.write_text("a file, where an earlier version kept one")
    assert (build.module("tiny").build() / "tiny").is_file()


def test_what_cannot_be_built_is_said_in_the_compilers_words_and_leaves_nothing(source):
    (source / "main.go").write_text(MAIN.replace("os.Stdout", "nothing.Stdout"))
    with pytest.raises(BlackstartError, match=r"main\.go:5:\d+: undefined: nothing"):
        build.module("tiny").build()
    (source / "main.go").write_text(MAIN.replace('"os"', '"blackstart.test/not/there"'))
    with pytest.raises(BlackstartError, match=r"blackstart\.test/not/there"):
        build.module("tiny").build()
    assert left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_compilers_and_leaves_nothing(source, number, tmp_path):
    (source / "main.go").write_text('package main\n\nimport "net/http"\n\nfunc main() { _, _ = http.Get("") }\n')
    program = (
        "from pathlib import Path; from tests.servers import build; "
        f"build.HERE = Path({str(tmp_path)!r}); raise SystemExit(build.main())"
    )
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cold")}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as made:
        assert made.stdout is not None
        assert made.stdout.readline().startswith(b"building tiny")
        until = time.monotonic() + 30
        while not list(build.place("tiny").parent.parent.glob(".half-*")):
            assert time.monotonic() < until
        time.sleep(0.5)
        made.send_signal(number)
        made.communicate(timeout=30)
    assert made.returncode == 128 + number
    assert left() == []
    words = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in words if f"{tmp_path}/cache/" in line], "no compiler goes on"
