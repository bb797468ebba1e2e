"""One file to a ladder: what comes out is what went in, and what cannot be encoded says why."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'blackstart[media]'")
import av

from agent.workloads.encode import check, codec, ladder, output, quality, source, vmaf
from agent.workloads.encode.ladder import Made
from agent.workloads.encode.source import JobError
from agent.workloads.encode.spec import Input, Rendition
from protos.error import SpecError
from tests.contract import encode_rig as rig

SIZE = (192, 96)
X265 = {"x265-params": "log-level=error"}


def encoded(path: Path, folder: Path, **more: Any) -> Made:
    """The job's outcome, by a file or folder of the node; the output is looked at as after each job."""
    spec = rig.spec(**more)
    (one,) = source.resolve(Input(path=str(path)), folder)
    out = folder / "out"
    out.mkdir()
    counted, policies = list[int](), set[int]()

    def tick(frames: int) -> None:
        counted.append(frames)
        if frames % 10 == 1:
            policies.update(map(_policy, os.listdir("/proc/self/task")))

    made = ladder.Job(one.path, out, spec, tick).run()
    assert policies <= {os.SCHED_OTHER}, "a real-time thread would keep everybody else waiting"
    assert counted == list(range(1, made.frames + 1)), "it can be seen how far it is"
    assert check.wrong(out, made, spec.gop_s) == []
    assert check.decoded(out, made.rungs, made.frames) == []
    return made


def _policy(thread: str) -> int:
    try:
        return os.sched_getscheduler(int(thread))
    except ProcessLookupError:
        return os.SCHED_OTHER


def test_each_rung_has_every_picture_with_key_frames_at_the_same_instants(tmp_path):
    made = encoded(rig.pattern(tmp_path), tmp_path)
    assert (made.frames, made.media_s, made.damaged) == (50, pytest.approx(2.0), 0)
    assert made.sound_s == pytest.approx(2.0, abs=0.05)
    assert [(one.name, one.width, one.height) for one in made.rungs] == [("96p", 192, 96), ("48p", 96, 48)]
    assert made.cpu_s > 0
    for rung in made.rungs:
        assert made.bytes[rung.name] == output.size(tmp_path / "out", rung.name) > 0
        with av.open(str(tmp_path / "out" / f"{rung.name}.m3u8"), options=check.OPEN) as container:
            keys = [float(one.pts * one.time_base) for one in container.demux(video=0) if one.is_keyframe and one.size]
        assert keys == pytest.approx([0.0, 0.52, 1.0, 1.52]), "each the first picture at or after it"
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert {"master.m3u8", "audio.m3u8", "96p-00000.m4s", "96p-00001.m4s"} <= names
    with av.open(str(tmp_path / "out" / "master.m3u8"), options=check.OPEN) as container:
        assert sorted(one.height for one in container.streams.video) == [48, 96]
        assert len(container.streams.audio) == 1


@pytest.mark.parametrize("family", ["h264", "h265", "av1"])
@pytest.mark.parametrize("sound", ["aac", "opus", "none"])
def test_codecs_by_family(tmp_path, family, sound):
    ladder = [{"height": 96, "crf": 35, "codec": family}, {"height": 64, "kbps": 60, "codec": family}]
    made = encoded(rig.pattern(tmp_path, duration_s=1.0), tmp_path, renditions=ladder, audio=sound)
    assert made.frames == 25
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "no library of an encoder takes real-time priority as root"
    assert bool(made.sound_s) == (sound != "none")
    name = {"h264": "h264", "h265": "hevc", "av1": "av1"}[family]
    with av.open(str(tmp_path / "out" / "96p.m3u8"), options=check.OPEN) as container:
        assert name in container.streams.video[0].codec_context.name


def test_odd_sizes_rates_that_vary_and_small_pictures(tmp_path):
    odd = rig.pictures(tmp_path / "odd.mkv", [(191, 97)] * 10, codec="ffv1", pix_fmt="yuv444p")
    assert [(one.width, one.height) for one in encoded(odd, _fresh(tmp_path)).rungs] == [(190, 96), (94, 48)]
    tiny = rig.pictures(tmp_path / "tiny.mkv", [(16, 16)] * 10)
    assert [(one.width, one.height) for one in encoded(tiny, _fresh(tmp_path)).rungs] == [(16, 16)], "never larger"
    stamps = [at * at * 2 for at in range(50)]
    made = encoded(rig.pictures(tmp_path / "varies.mkv", [SIZE] * 50, stamps=stamps), _fresh(tmp_path))
    assert made.frames == 50
    assert made.media_s == pytest.approx(stamps[-1] / 1000 + 0.04, abs=0.05)
    one = encoded(rig.pictures(tmp_path / "one.mp4", [SIZE]), _fresh(tmp_path))
    assert (one.frames, one.media_s) == (1, pytest.approx(0.04))


def _fresh(folder: Path) -> Path:
    made = folder / f"fresh-{len(list(folder.glob('fresh-*')))}"
    made.mkdir()
    return made


def test_high_dynamic_range_is_kept_where_the_codec_can(tmp_path):
    hdr = rig.pictures(tmp_path / "hdr.mp4", [SIZE] * 10, codec="libx265", pix_fmt="yuv420p10le", hdr=16, **X265)
    made = encoded(hdr, tmp_path, renditions=[{"height": 96, "crf": 30, "codec": "h265"}])
    assert made.rungs[0].pix_fmt == "yuv420p10le"
    with av.open(str(tmp_path / "out" / "96p.m3u8"), options=check.OPEN) as container:
        assert int(container.streams.video[0].codec_context.color_trc) == 16


def test_damage_that_a_player_passes_over_is_counted(tmp_path):
    whole = rig.pattern(tmp_path)
    made = encoded(rig.scratched(rig.remuxed(whole, tmp_path / "good.ts"), tmp_path / "s.ts", 0.40, 0.43), tmp_path)
    assert 40 <= made.frames <= 50


def _file(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo.mp4")
    return folder / "fifo.mp4"


def _folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _loop(folder: Path) -> Path:
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    return folder / "loop.mp4"


Y4M = b"YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420\nFRAME\n"
BAD = {
    "not there": (lambda at: at / "missing.mp4", "no such file or folder on this node"),
    "empty": (lambda at: _file(at, "e.mp4", b""), "is empty"),
    "text": (lambda at: _file(at, "t.mp4", b"hello world\n" * 100), "cannot be read as a video"),
    "noise": (lambda at: _file(at, "n.mp4", os.urandom(100_000)), "cannot be read as a video"),
    "zeros": (lambda at: _file(at, "0.mkv", bytes(100_000)), "cannot be read as a video"),
    "cut off before its index": (lambda at: rig.cut(rig.pattern(at), at / "c.mp4", 0.5), "cannot be read as a video"),
    "cut off after its index": (
        lambda at: rig.cut(rig.remuxed(rig.pattern(at), at / "w.mp4", movflags="faststart"), at / "c.mp4", 0.6),
        "breaks off after"),
    "a head of noise": (lambda at: rig.scratched(rig.pattern(at), at / "h.mp4", 0, 0.01), "cannot be read as a video"),
    "a body of noise": (
        lambda at: rig.scratched(rig.pattern(at), at / "b.mp4", 0.02, 0.9), r"do not decode|cannot be|none of"),
    "sound alone": (lambda at: rig.tone(at / "a.mp4"), r"has no pictures to encode \(it holds audio\)"),
    "subtitles alone": (
        lambda at: _file(at, "s.srt", b"1\n00:00:00,000 --> 00:00:01,000\nhi\n"), r"it holds subtitle"),
    "HDR into H.264": (
        lambda at: rig.pictures(at / "h.mp4", [SIZE] * 5, codec="libx265", pix_fmt="yuv420p10le", hdr=16, **X265),
        "PQ .* 10 bits, which libx264"),
    "HLG into H.264": (
        lambda at: rig.pictures(at / "h.mp4", [SIZE] * 5, codec="libx265", pix_fmt="yuv420p10le", hdr=18, **X265),
        "HLG"),
    "a pipe": (_fifo, "is no regular file"),
    "a device": (lambda _: Path("/dev/zero"), "is no regular file"),
    "a link to itself": (_loop, "no such file"),
    "a folder without videos": (_folder, "no video in this folder"),
    "no whole path": (lambda _: Path("clip.mp4"), "name it by its whole path"),
    "a network address": (lambda _: Path("http://127.0.0.1:1/clip.mp4"), "name it by its whole path"),
    "a list of other files": (
        lambda at: _file(at, "l.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"), "cannot be read"),
    "a playlist of a network": (
        lambda at: _file(at, "p.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n"), "cannot be read"),
    "a playlist of another file": (
        lambda at: _file(at, "q.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"), "cannot be read"),
    "pictures without size": (lambda at: _file(at, "z.y4m", Y4M % (0, 0)), "cannot be read"),
    "pictures too large for anything": (lambda at: _file(at, "h.y4m", Y4M % (99_999, 99_999)), "cannot be read"),
    "a picture that is not whole": (lambda at: _file(at, "p.y4m", Y4M % (64, 64) + b"x" * 10), "none of|do not decode"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_a_clear_error(tmp_path, name):
    make, told = BAD[name]
    path = make(tmp_path)
    with pytest.raises(JobError, match=told) as raised:
        encoded(path, tmp_path)
    assert str(path) in str(raised.value)
    print(f"\n{name}: {raised.value}")


def test_an_encoder_that_this_node_cannot_open_says_why_and_the_next_is_taken():
    assert codec.choose(Rendition(height=96, crf=30)).name in ("h264_nvenc", "libx264")
    if why := codec.why_not("h264_nvenc"):
        assert codec.choose(Rendition(height=96, crf=30)) == ("libx264", {"h264_nvenc": why})
        with pytest.raises(SpecError, match=re.escape(f"cannot be used on this node (h264_nvenc: {why}")):
            codec.choose(Rendition(height=96, crf=30, codec="h264_nvenc"))
    with pytest.raises(SpecError, match="no such encoder"):
        codec.choose(Rendition(height=96, crf=30, codec="no_such"))
    with pytest.raises(SpecError, match="encodes no pictures"):
        codec.choose(Rendition(height=96, crf=30, codec="aac"))


def test_more_bits_are_more_quality_and_the_same_is_best(tmp_path):
    path = rig.pattern(tmp_path, duration_s=1.0)
    values = []
    for crf in (15, 30, 45):
        folder = _fresh(tmp_path)
        made = encoded(path, folder, renditions=[{"height": 96, "crf": crf}], audio="none")
        kbps = made.bytes["96p"] * 8 / made.media_s / 1000
        values.append(quality.measure(str(path), folder / "out", made.rungs[0], kbps))
    assert all(one.pictures == 25 for one in values)
    for name in ("psnr_db", "ssim", "xpsnr_db", "kbps"):
        row = [getattr(one, name) for one in values]
        assert row == sorted(row, reverse=True), name
        assert len(set(row)) == 3
    assert values[0].psnr_db > 35
    assert values[0].ssim < 1


@pytest.mark.skipif(not vmaf.program(), reason="needs an ffmpeg with libvmaf: pip install 'blackstart[vmaf]'")
def test_vmaf_falls_with_bits_and_is_near_its_top_for_what_cannot_be_told_apart(tmp_path):
    path, values = rig.pattern(tmp_path, duration_s=1.0, width=320, height=192), []
    for crf in (1, 30, 45):
        folder = _fresh(tmp_path)
        made = encoded(path, folder, renditions=[{"height": 192, "crf": crf}], audio="none")
        values.append(quality.measure(str(path), folder / "out", made.rungs[0], 1.0).vmaf)
    assert values == sorted(values, reverse=True)
    assert values[0] > 95
    assert values[2] < 80


def test_without_an_ffmpeg_that_has_it_there_is_no_vmaf_and_its_failure_has_its_words(tmp_path, monkeypatch):
    path = rig.pattern(tmp_path, duration_s=0.4)
    made = encoded(path, tmp_path, audio="none")
    monkeypatch.setattr(vmaf, "program", lambda: "")
    assert quality.measure(str(path), tmp_path / "out", made.rungs[0], 1.0).vmaf is None
    assert vmaf.missing() == "no ffmpeg with libvmaf"
    monkeypatch.setattr(vmaf, "program", lambda: "/bin/false")
    seen = quality.measure(str(path), tmp_path / "out", made.rungs[0], 1.0)
    assert (seen.vmaf, seen.vmaf_failed) == (None, "VMAF of 96p: status 1")
    assert seen.psnr_db > 20, "the others stand"


@pytest.mark.parametrize("harm", ["a segment is gone", "a segment is cut", "a segment twice"])
def test_an_output_that_is_not_whole_is_found(tmp_path, harm):
    made = encoded(rig.pattern(tmp_path), tmp_path)
    out = tmp_path / "out"
    one, other = out / "96p-00001.m4s", out / "96p-00000.m4s"
    if harm == "a segment is gone":
        one.unlink()
    elif harm == "a segment is cut":
        one.write_bytes(one.read_bytes()[: one.stat().st_size // 2])
    else:
        one.write_bytes(other.read_bytes())
    assert check.wrong(out, made, 0.5)
