"""The reference farm as its users run it: real processes, real video, real signals."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import timeit
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

av = pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[reference]'")
pytest.importorskip("supervisor", reason="needs supervisor: pip install 'blackstart[reference]'")

pytestmark = pytest.mark.alone
FARM = Path(__file__).parents[2] / "deploy" / "reference" / "farm.py"


Segment = tuple[int, str, bool]  # number, initialization section, after a discontinuity


@dataclass
class Farm:
    directory: Path
    base: int
    process: subprocess.Popen[str]
    status: dict[str, Any]

    def get(self, path: str, port: int | None = None, timeout_s: float = 1.0) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.base, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def status_of(self, path: str, port: int | None = None) -> int:
        try:
            return self.get(path, port)[0]
        except OSError:
            return 0

    def pid(self, name: str) -> int:
        return int(Path(self.status["pid_files"][name]).read_text())

    def running(self) -> list[str]:
        """Command lines of every process that names this farm's directory."""
        lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
        return [line for line in lines if str(self.directory) in line]

    def ports_free(self) -> bool:
        return all(is_free(self.base + offset) for offset in range(3))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def until(what: str, within_s: float, ask: Callable[[], Any]) -> None:
    end_s = time.monotonic() + within_s
    while not ask():
        assert time.monotonic() < end_s, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def free_base() -> int:
    bases = iter(lambda: random.SystemRandom().randrange(20_000, 32_000), 0)
    return next(base for base in bases if all(map(is_free, range(base, base + 3))))


def is_ready(directory: Path, pid: int) -> bool:
    """Whether this farm says so: a killed one leaves its file behind."""
    with contextlib.suppress(FileNotFoundError):
        return json.loads((directory / "ready").read_text())["pid"] == pid
    return False


@contextlib.contextmanager
def up(directory: Path, *more: str) -> Iterator[Farm]:
    base = free_base()
    said = directory.parent / f"{directory.name}.out"
    with said.open("a") as screen:
        arguments = ["up", "--dir", str(directory), "--port-base", str(base), *more]
        process = subprocess.Popen([sys.executable, str(FARM), *arguments], stdout=screen, stderr=screen, text=True)
        try:
            until("DIR/ready", 15, lambda: is_ready(directory, process.pid) or process.poll() is not None)
            assert process.poll() is None, said.read_text()
            yield Farm(directory, base, process, json.loads((directory / "ready").read_text()))
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(15)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short clip without sound, of a length that fits no whole number of segments."""
    path = tmp_path_factory.mktemp("clip") / "moving.mkv"
    graph = "testsrc2=size=320x180:rate=24:duration=2.3"
    with av.open(graph, format="lavfi") as source, av.open(str(path), "w") as target:
        video = target.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        for frame in source.decode(video=0):
            target.mux(video.encode(frame.reformat(format="yuv420p")))
        target.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm on the default clip, from an empty cache."""
    folder = tmp_path_factory.mktemp("farm")
    with up(folder / "100% odd", "--cache", str(folder / "cache")) as running:
        yield running


def entries(farm: Farm, rung: str, *, one_life: bool = False) -> list[Segment]:
    """What the playlist lists, or what its newest process wrote of that."""
    text = farm.get(f"/{rung}/index.m3u8")[1].decode()
    first = int(re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[1])
    found: list[Segment] = []
    init, broken = "", False
    for line in text.splitlines():
        if line == "#EXT-X-DISCONTINUITY":
            broken = True
        elif match := re.match(r'#EXT-X-MAP:URI="(.+)"', line):
            init = match[1]
        elif line and not line.startswith("#"):
            assert line == f"seg-{first + len(found):06d}.m4s"
            found.append((first + len(found), init, broken))
            broken = False
    return [row for row in found if row[1] == init or not one_life]


def decode(farm: Farm, rung: str, segments: list[Segment]) -> tuple[list[int], list[int], tuple[int, int]]:
    """Video timestamps, audio timestamps and picture size of consecutive segments that share a timeline."""
    parts = [farm.get(f"/{rung}/{segments[0][1]}"), *(farm.get(f"/{rung}/seg-{row[0]:06d}.m4s") for row in segments)]
    assert {status for status, _ in parts} == {200}
    content = b"".join(body for _, body in parts)
    with av.open(io.BytesIO(content)) as container:
        frames = list(container.decode())
    pictures = [frame for frame in frames if isinstance(frame, av.VideoFrame)]
    sound = [frame.pts for frame in frames if isinstance(frame, av.AudioFrame)]
    return [picture.pts for picture in pictures], sound, (pictures[0].width, pictures[0].height)


def test_the_clip_says_where_it_comes_from(farm: Farm) -> None:
    clip = farm.status["clip"]
    (path,) = clip["paths"]
    assert ("GENERATED" in clip["provenance"]) == Path(path).name.startswith("generated")
    assert json.loads(farm.get("/healthz")[1])["clip"] == clip["provenance"]
    assert clip["provenance"] in (farm.directory.parent / "100% odd.out").read_text()


@pytest.mark.parametrize(("rung", "size"), [("1/360p", (640, 360)), ("2/180p", (320, 180))])
def test_segments_decode_with_every_frame_in_order(farm: Farm, rung: str, size: tuple[int, int]) -> None:
    until("two segments of one life", 8, lambda: len(entries(farm, rung, one_life=True)) >= 2)
    wanted = entries(farm, rung, one_life=True)[-2:]
    video, sound, decoded_size = decode(farm, rung, wanted)
    frames = round(farm.status["fps"] * farm.status["segment_s"])
    assert decoded_size == size
    gap, in_life = video[1] - video[0], wanted[0][0] - int(wanted[0][1][5:11])
    begin = (farm.status["fps"] + in_life * frames) * gap  # a life begins at 1 s
    assert video == list(range(begin, begin + 2 * frames * gap, gap))
    assert sound == sorted(set(sound))
    assert len(sound) * 1024 / 48_000 == pytest.approx(2 * farm.status["segment_s"], abs=0.1)
    assert len(decode(farm, rung, wanted[:1])[0]) == frames
    assert f"{rung.split('/')[1]}/index.m3u8" in farm.get(f"/{rung[0]}/master.m3u8")[1].decode()


def test_a_killed_worker_comes_back_and_goes_on_counting(farm: Farm) -> None:
    until("worker-1 well", 8, lambda: farm.status_of("/healthz", farm.base + 1) == 200)
    before, pid = entries(farm, "1/360p"), farm.pid("worker-1")
    restarts = json.loads(farm.get("/healthz", farm.base + 1)[1])["restarts"]
    os.kill(pid, signal.SIGKILL)
    until("worker-1 down", 2, lambda: farm.status_of("/healthz", farm.base + 1) == 0)
    until("worker-1 serves again", 6, lambda: farm.status_of("/healthz", farm.base + 1) == 200)
    assert farm.pid("worker-1") != pid
    assert json.loads(farm.get("/healthz", farm.base + 1)[1])["restarts"] == restarts + 1
    after = entries(farm, "1/360p")
    broken = [row for row in after if row[2]][-1]
    assert before[-1][0] < broken[0] <= before[-1][0] + 2, "numbering goes on where it was"
    assert broken[1] == f"init-{broken[0]:06d}.mp4"


def test_a_frozen_worker_is_stale_but_nobody_restarts_it(farm: Farm) -> None:
    until("channel 2 fresh", 8, lambda: farm.status_of("/fresh/2") == 200)
    pid = farm.pid("worker-2")
    os.kill(pid, signal.SIGSTOP)
    try:
        until("channel 2 stale", 6, lambda: farm.status_of("/fresh/2") == 503)
        assert json.loads(farm.get("/fresh/2")[1])["age_s"] >= farm.status["segment_s"] * 3
        assert (farm.status_of("/healthz", farm.base + 2), farm.status_of("/healthz")) == (0, 200)
    finally:
        os.kill(pid, signal.SIGCONT)
    until("channel 2 fresh again", 4, lambda: farm.status_of("/fresh/2") == 200)
    assert farm.pid("worker-2") == pid


def test_health_answers_quickly_while_encoding(farm: Farm) -> None:
    until("worker-1 listens", 8, lambda: farm.status_of("/healthz", farm.base + 1))
    taken_s = [timeit.timeit(lambda: farm.get("/healthz", farm.base + 1), number=1) for _ in range(50)]
    assert statistics.median(taken_s) < 0.005


@pytest.mark.parametrize(
    "path",
    ["/../run/worker-1.pid", "/%2e%2e/ready", "/1/../../ready", "//etc/passwd", "/1", "/%00", "/fresh/3", "/fresh/.."],
)
def test_the_origin_serves_nothing_else(farm: Farm, path: str) -> None:
    assert farm.get(path)[0] == 404


def test_a_signal_takes_everything_down_even_a_frozen_worker(tmp_path: Path, clip: Path) -> None:
    with up(tmp_path / "farm", "--input", str(clip), "--segment-s", "0.5") as farm:
        assert len(farm.running()) >= 5
        os.kill(farm.pid("worker-1"), signal.SIGSTOP)
        farm.process.send_signal(signal.SIGTERM)
        assert farm.process.wait(10) == 0
        assert farm.running() == []
        assert farm.ports_free()
        assert not (farm.directory / "ready").exists()
        assert list((farm.directory / "run").glob("*.pid")) == []


def test_nothing_outlives_a_killed_farm_and_it_resumes(tmp_path: Path, clip: Path) -> None:
    with up(tmp_path / "farm", "--input", str(clip.parent), "--segment-s", "0.5") as farm:
        os.kill(farm.pid("worker-2"), signal.SIGSTOP)
        farm.process.kill()
        farm.process.wait()
        until("every process and socket gone", 2, lambda: not farm.running() and farm.ports_free())
    listed = (farm.directory / "www" / "1" / "360p" / "index.m3u8").read_text()
    last = int(re.findall(r"seg-(\d+)", listed)[-1])
    with up(tmp_path / "farm", "--input", str(clip), "--segment-s", "0.5", "--roles", "origin,workers") as again:
        found = entries(again, "1/360p")
        assert [row[0] for row in found if row[2]][-1] == last + 1
        assert len(decode(again, "1/360p", entries(again, "1/360p", one_life=True)[:1])[0]) == 12


def refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FARM), *arguments], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_bad_input_is_refused_before_anything_starts(tmp_path: Path, clip: Path) -> None:
    damaged, empty, folder = tmp_path / "damaged.mp4", tmp_path / "empty.mp4", tmp_path / "folder"
    damaged.write_bytes(clip.read_bytes()[:300] + random.Random(1).randbytes(4000))
    empty.touch()
    folder.mkdir()
    for given in (damaged, empty, folder, tmp_path / "missing.mp4"):
        said = refused("up", "--dir", str(tmp_path / "farm"), "--input", str(given))
        assert str(given) in said
        assert len(said.splitlines()) == 1
    assert not (tmp_path / "farm").exists()


def test_a_port_in_use_is_refused(tmp_path: Path, clip: Path) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base + 2)):
        said = refused("up", "--dir", str(tmp_path / "farm"), "--port-base", str(base), "--input", str(clip))
    assert f"port {base + 2} of worker-2 is in use" in said
    assert not (tmp_path / "farm" / "www" / "1").exists()


def test_a_clip_that_stands_in_says_so(tmp_path: Path) -> None:
    offline = os.environ | {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_NO_CACHE": "1"}
    done = subprocess.run(
        [sys.executable, str(FARM), "fetch", "--cache", str(tmp_path)],
        env=offline, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    path, provenance = done.stdout.splitlines()
    assert provenance.startswith("GENERATED")
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == 125
    assert [entry.name for entry in tmp_path.iterdir()] == ["generated.mp4"]
