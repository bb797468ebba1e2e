"""The HTML report in a real browser: in light, dark and on paper; it asks for nothing and complains of nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from controller.report.render import render
from tests.unit.report_sample import gameday, run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--disable-breakpad", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"
BROWSERS_OWN = "not an origin"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="install chromium (`apt-get install chromium`)")


def browse(page: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Opens *page* once in a browser of its own, which is gone afterwards, also when it hangs."""
    profile = folder / "profile"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    hostile = run("<script>console.error('injected')</script><img src=http://192.0.2.1/x>", id="r-hostile")
    path = tmp_path / "report.html"
    path.write_bytes(render([*gameday(), hostile], "Quickstart gameday", "html")[1])
    return path


def asked_for(log: Path) -> set[str]:
    """Every URL that the page asked for, by Chromium's network log; the browser's own calls have no origin."""
    found = [event.get("params") or {} for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    return {row["url"] for row in found if row.get("initiator", BROWSERS_OWN) != BROWSERS_OWN}


def test_the_browser_builds_the_page_quietly_and_alone(page: Path, tmp_path: Path):
    log = tmp_path / "net.json"
    found = browse(
        page,
        tmp_path,
        "--enable-logging=stderr",
        "--v=0",
        f"--log-net-log={log}",
        "--virtual-time-budget=2000",
        "--dump-dom",
    )
    assert found.returncode == 0, found.stderr
    dom = found.stdout
    assert dom.count('<svg class="chart"') == 8
    assert '<table class="summary">' in dom
    assert len(re.findall(r'<tr class="row-', dom)) == 6
    assert "<script" not in dom.lower()
    assert "<img" not in dom.lower()
    assert "CONSOLE" not in found.stderr, found.stderr
    assert asked_for(log) <= {"data:,"}


@pytest.mark.parametrize("mode", [(), (DARK,)], ids=["light", "dark"])
def test_it_is_painted(page: Path, tmp_path: Path, mode: tuple[str, ...]):
    picture = tmp_path / "page.png"
    found = browse(page, tmp_path, *mode, "--window-size=1280,2400", f"--screenshot={picture}")
    assert found.returncode == 0, found.stderr
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 60_000, "the page is empty"


def test_it_prints(page: Path, tmp_path: Path):
    paper = tmp_path / "page.pdf"
    found = browse(page, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    assert found.returncode == 0, found.stderr
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 6
