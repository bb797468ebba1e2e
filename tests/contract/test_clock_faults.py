"""What is particular to `time.*`, beside the contract that all faults keep: the target's own clock."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.faults import registry
from agent.faults.base import Effect
from agent.system import preload, proc
from protos.error import FaultError, SpecError
from tests.chaos.case import end, wait_until
from tests.chaos.subject import clock

pytestmark = pytest.mark.skipif(bool(clock.missing()), reason=clock.missing() or "there")
Wrapped = tuple[subprocess.Popen[bytes], str, Path]


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKSTART_TEST", str(os.getpid()))


@pytest.fixture(autouse=True)
def _swept() -> Iterator[None]:
    """libfaketime leaves two files of each program that does not end by exit(3)."""
    yield
    for left in Path("/dev/shm").glob("*faketime_s*_*"):
        if not Path(f"/proc/{left.name.rpartition('_')[2]}").exists():
            left.unlink(missing_ok=True)


@pytest.fixture
def wrapped() -> Iterator[Wrapped]:
    with clock.wrapped() as made:
        yield made


def planned(name: str, duration_s: float = 20.0, **spec: Any) -> tuple[Any, Effect]:
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, "time.clock_skew", {"name": name, **spec})
    effect.boot_id, effect.deadline_ns = proc.boot_id(), time.monotonic_ns() + int(duration_s * 1e9)
    return faults["time.clock_skew"], effect


async def put_in_force(fault: Any, effect: Effect) -> Any:
    fault.prepare(effect)
    return await fault.observe(effect, await fault.inject(effect))


async def test_the_target_itself_sees_the_skew_and_its_end_and_nobody_else_does(wrapped: Wrapped) -> None:
    process, name, _ = wrapped
    assert abs(clock.asked(process) - time.time()) < 2
    fault, effect = planned(name, skew_s=7200.5)
    receipt = await put_in_force(fault, effect)
    skewed, real = clock.asked(process), float(await asyncio.to_thread(subprocess.check_output, ["date", "+%s.%N"]))
    assert 7198 < skewed - time.time() < 7202
    assert abs(real - time.time()) < 1
    assert receipt.confirmed, receipt.text
    await fault.revert(effect)
    assert abs(clock.asked(process) - time.time()) < 2


async def test_sigkill_of_the_holder_ends_the_skew_at_once_with_nobody_acting(wrapped: Wrapped) -> None:
    process, name, file = wrapped
    fault, effect = planned(name, skew_s=-500.0)
    await put_in_force(fault, effect)
    assert clock.asked(process) < time.time() - 490
    os.kill(effect.facts["holder"]["pid"], 9)
    await asyncio.to_thread(wait_until, lambda: not file.exists(), 1.0)
    assert abs(clock.asked(process) - time.time()) < 2
    await asyncio.to_thread(wait_until, lambda: not os.path.lexists(file), 2.0)  # swept
    await fault.revert(effect)


async def test_a_drift_goes_on_and_is_seen(wrapped: Wrapped) -> None:
    _, name, _ = wrapped
    fault, effect = planned(name, skew_s=100.0, drift_ppm=200_000.0)
    fault.prepare(effect)
    injected = await fault.inject(effect)
    (wearer, *_) = preload.wrapped(name)
    offsets = []
    for _ in range(2):
        before, said, _ = await preload.look(wearer)
        offsets.append((time.monotonic(), said - before))
        await asyncio.sleep(0.4)
    receipt = await fault.observe(effect, injected)
    await fault.revert(effect)
    (first_at, first), (second_at, second) = offsets
    assert 0.1 < (second - first) / (second_at - first_at) < 0.3
    assert receipt.confirmed, receipt.text


async def test_a_name_that_nobody_runs_under_is_refused() -> None:
    with pytest.raises(SpecError, match="no living process runs under the name 'nobody'"):
        planned("nobody", skew_s=5.0)


async def test_a_skew_of_nothing_and_a_monotonic_clock_that_was_not_asked_for_are_refused(wrapped: Wrapped) -> None:
    _, name, _ = wrapped
    with pytest.raises(SpecError, match="the clock would be right"):
        planned(name)
    with pytest.raises(SpecError, match="leaves the monotonic clock alone"):
        planned(name, skew_s=5.0, monotonic=True)


async def test_the_monotonic_clock_goes_along_where_the_wrapper_says_so() -> None:
    tell = "import time; print(time.monotonic_ns(), flush=True)"
    with clock.wrapped("--monotonic", script=f'while read -r _; do {sys.executable} -c "{tell}"; done') as made:
        process, name, _ = made
        before = clock.asked(process)
        fault, effect = planned(name, skew_s=1000.0, monotonic=True)
        receipt = await put_in_force(fault, effect)
        skewed = clock.asked(process)
        await fault.revert(effect)
        assert receipt.confirmed, receipt.text
        assert 1000e9 <= skewed - before < 1020e9
        assert 0 < clock.asked(process) - before < 20e9


async def test_an_offset_file_of_somebody_else_stays_as_it_is(wrapped: Wrapped) -> None:
    _, name, file = wrapped
    fault, effect = planned(name, skew_s=5.0)
    file.write_text("+0\n")
    fault.prepare(effect)
    with pytest.raises(FaultError, match="is there already"):
        await fault.inject(effect)
    await fault.revert(effect)
    assert file.read_text() == "+0\n"
    assert fault.residue(effect) == []


async def test_a_target_that_ended_between_plan_and_injection_is_an_error(wrapped: Wrapped) -> None:
    process, name, file = wrapped
    fault, effect = planned(name, skew_s=5.0)
    process.kill()
    process.wait()
    fault.prepare(effect)
    with pytest.raises(FaultError, match="gone"):
        await fault.inject(effect)
    await fault.revert(effect)
    assert not os.path.lexists(file)


async def test_an_environment_that_points_the_agent_elsewhere_is_not_obeyed(tmp_path: Path) -> None:
    env = preload.environment("evil", str(tmp_path), preload.installed(), monotonic=False, base=os.environ)
    env[preload.FILE] = str(tmp_path / "other")
    process = await asyncio.to_thread(subprocess.Popen, ["sleep", "30"], env=env)
    try:
        await asyncio.to_thread(wait_until, lambda: preload.is_loaded(process.pid), 5.0)
        with pytest.raises(SpecError, match="not one that the wrapper makes"):
            planned("evil", skew_s=5.0)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
async def test_programs_of_another_user_are_skewed_by_a_holder_of_that_user(tmp_path: Path) -> None:
    nobody, folder = 65534, Path(f"/tmp/blackstart-clock-{os.getpid()}")  # where that user can get to
    folder.mkdir(mode=0o755)
    os.chown(folder, nobody, nobody)
    env = preload.environment(
        "theirs", str(folder), preload.installed(), monotonic=False, base={"PATH": "/usr/bin:/bin"}
    )
    process = await asyncio.to_thread(
        subprocess.Popen, ["sh", "-c", clock.TELL], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        user=nobody, group=nobody, extra_groups=[],
    )  # fmt: skip
    try:
        await asyncio.to_thread(wait_until, lambda: preload.is_loaded(process.pid), 5.0)
        fault, effect = planned("theirs", skew_s=-900.0)
        receipt = await put_in_force(fault, effect)
        holder = effect.facts["holder"]["pid"]
        skewed, owner = clock.asked(process), os.stat(f"/proc/{holder}").st_uid
        await fault.revert(effect)
        assert receipt.confirmed, receipt.text
        assert -905 < skewed - time.time() < -895
        assert owner == nobody
        assert not os.path.lexists(folder / "theirs")
    finally:
        end(process)
        folder.rmdir()


def wrap(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "wrap", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env}, timeout=30)


def test_wrap_passes_arguments_and_exit_code_on_and_keeps_other_preloads(tmp_path: Path) -> None:
    options = ("--name", "shell", "--folder", str(tmp_path), "--")
    done = wrap(
        *options, "sh", "-c", 'echo "$1 $LD_PRELOAD"; exit 7', "sh", "--help", LD_PRELOAD="/nonexistent/other.so"
    )
    assert done.returncode == 7
    assert done.stdout.startswith("--help /")
    assert done.stdout.strip().endswith(" /nonexistent/other.so")
    assert not any(tmp_path.iterdir())


def test_wrap_says_what_is_wrong(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for arguments, words in (
        (("--name", "a/b", "--", "true"), "is not a name"),
        (("--name", "a", "--library", "/nonexistent.so", "--", "true"), "no libfaketime at /nonexistent.so"),
        (("--name", "a", "--folder", folder, "--", "/nonexistent/program"), "cannot run"),
    ):
        done = wrap(*arguments)
        assert done.returncode == 2
        assert words in done.stderr


def test_wrap_warns_of_a_library_that_breaks_sleeping(tmp_path: Path) -> None:
    env = preload.environment("a", str(tmp_path), preload.installed(), monotonic=False, base=os.environ)
    nap = [sys.executable, "-c", "import time; time.sleep(0.001)"]
    breaks = bool(subprocess.run(nap, env=env, capture_output=True, check=False).returncode)
    done = wrap("--name", "a", "--folder", str(tmp_path), "--", "true")
    assert ("warning: under" in done.stderr) == breaks
