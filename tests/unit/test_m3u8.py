"""Playlists read, and what a rung's newest look says beside the ones before it."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.probes import hls_look, m3u8
from agent.probes.hls_rung import Rung
from agent.probes.message import MalformedError

LINES = st.sampled_from(
    ["#EXTM3U", "#EXT-X-STREAM-INF:BANDWIDTH=1", "#EXTINF:2,", "#EXT-X-MEDIA-SEQUENCE:5", "#EXT-X-GAP", "seg", "",
     "#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:00Z", "#EXT-X-DISCONTINUITY", "#EXT-X-ENDLIST", "#EXTINF:nan,",
     "#EXTINF",
     "#EXT-X-PROGRAM-DATE-TIME:0001-01-01T00:00:00+23:00", "#EXT-X-MEDIA-SEQUENCE:" + "9" * 30, '#EXT-X-MAP:URI="init']
)  # fmt: skip
WALL_S = dt.datetime(2026, 11, 24, 10, tzinfo=dt.UTC).timestamp()


def media(first=0, count=6, *, stamp_s=None, more=""):
    """A playlist of segments of 2 s; *stamp_s*: wall-clock time of the first."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number in range(first, first + count):
        if stamp_s is not None:
            at = dt.datetime.fromtimestamp(stamp_s + 2 * (number - first), dt.UTC)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{at.isoformat()}")
        lines += ["#EXTINF:2.0,", f"seg-{number}.m4s"]
    return m3u8.read("\n".join([*lines, more, ""]).encode())


class Watch:
    """Looks at one rung, once a second unless told otherwise."""

    def __init__(self, **limits):
        self.rung, self.now_s = Rung(), 100.0
        self.limits = {"age_max_s": 5.0, "gap_max_s": 0.0, "discontinuities_max": -1, **limits}

    def look(self, playlist, *, after_s=1.0, wall_s=WALL_S, began_s=None):
        self.now_s += after_s
        begun_s = self.now_s if began_s is None else began_s
        return self.rung.judge(playlist, begun_s=begun_s, now_s=self.now_s, wall_s=wall_s, **self.limits)


@given(st.binary(max_size=300) | st.lists(LINES, max_size=30).map(lambda lines: "\n".join(lines).encode()))
def test_nothing_else_is_raised(content):
    try:
        found = m3u8.read(content)
    except MalformedError:
        return
    if isinstance(found, m3u8.Media):
        found.breaks_s()
        Rung().judge(
            found, begun_s=1, now_s=1, wall_s=1, age_max_s=1, gap_max_s=1, discontinuities_max=0
        )  # fmt: skip


def test_a_media_playlist():
    found = m3u8.read(
        b"\xef\xbb\xbf#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:41\r\n"
        b'#EXT-X-MAP:URI="init.mp4",BYTERANGE="3@0"\r\n'
        b"#EXT-X-PROGRAM-DATE-TIME:2026-11-24T12:00:00.500+02:00\r\n#EXTINF:4.0,a title\r\na.m4s\r\n"
        b"#EXTINF:2,\r\nb.m4s\r\n"
        b"#EXT-X-DISCONTINUITY\r\n#EXT-X-GAP\r\n#EXTINF:3.5\r\nc.m4s\r\n#EXT-X-ENDLIST\r\n"
    )
    assert (found.first, found.last, found.target_s, found.ended, found.span_s) == (41, 43, 4.0, True, 9.5)
    assert [one.stamp_s for one in found.segments] == [WALL_S + 0.5, WALL_S + 4.5, None]
    assert [(one.number, one.discontinuity, one.gap) for one in found.segments] == [
        (41, False, False), (42, False, False), (43, True, True),
    ]  # fmt: skip
    assert found.segments[2].init == "init.mp4"


def test_a_master_playlist_names_each_rung_once():
    found = m3u8.read(
        b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="a.m3u8"\n'
        b'#EXT-X-STREAM-INF:CODECS="x,BANDWIDTH=7",AVERAGE-BANDWIDTH=5,BANDWIDTH=900\n# a comment\nlow.m3u8\n'
        b"#EXT-X-STREAM-INF:BANDWIDTH=2000\nhigh.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2100\nhigh.m3u8\n"
    )
    assert found == [("low.m3u8", 900), ("high.m3u8", 2000)]


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"#EXTM3U8\n", b"#EXTM3U\n#EXTINF:x,\na", b"#EXTM3U\na.m4s", b"#EXTM3U\n\xff",
     b"#EXTM3U" + b"\n" * (1 << 20),
     b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1", b"#EXTM3U\n#EXTINF:inf,\na", b"#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:noon"],
)  # fmt: skip
def test_what_is_no_playlist(content):
    with pytest.raises(MalformedError):
        m3u8.read(content)


def test_a_stream_that_stands_is_old_after_the_limit_and_good_with_the_next_segment():
    watch = Watch()
    assert [watch.look(media(7)) for _ in range(6)] == [""] * 6
    assert watch.look(media(7)) == "the newest segment, 12, is 6.0 s old"
    assert watch.look(media(8)) == ""


def test_stamps_tell_the_age_at_the_first_look_and_cannot_hide_a_stream_that_stands():
    assert "is 8.0 s old" in Watch().look(media(stamp_s=WALL_S - 20))
    watch = Watch()
    assert watch.look(media(stamp_s=WALL_S - 13)) == ""
    assert watch.look(media(stamp_s=WALL_S - 13), wall_s=WALL_S + 4.5) == "the newest segment, 5, is 5.5 s old"
    ahead = media(stamp_s=WALL_S + 500)
    assert [watch.look(ahead) for _ in range(3)] == [""] * 3
    assert "old" in watch.look(ahead, after_s=6)


def test_a_recording_has_no_age_and_a_live_stream_must_not_end():
    assert Watch(age_max_s=0).look(media(more="#EXT-X-ENDLIST")) == ""
    assert Watch().look(media(more="#EXT-X-ENDLIST")) == "the stream has ended"
    assert Watch().look(media(count=0)) == "no segment is listed"


def test_numbers_that_go_back_or_leap_are_told_once():
    watch = Watch()
    watch.look(media(50))
    assert watch.look(media(49)) == "", "another edge, one segment behind"
    assert watch.look(media(3)) == "the segments' numbers went back from 55 to 8"
    assert watch.look(media(4)) == ""
    assert watch.look(media(20)) == "segments 10 to 19 were never listed"
    assert watch.look(media(21)) == ""
    assert watch.look(media(90), after_s=60) == "", "this agent was away for longer than the playlist is"


def test_a_look_that_came_back_late_changes_nothing():
    watch = Watch()
    watch.look(media(50))
    assert watch.look(media(3), began_s=1.0) == ""
    assert watch.look(media(51)) == ""


def test_missing_segments_do_not_count_as_fresh():
    watch = Watch()
    gone = b"#EXTM3U\n#EXT-X-GAP\n#EXTINF:2,\na\n"
    assert watch.look(m3u8.read(gone)) == "no segment that is listed is there"


def test_breaks_and_discontinuities_within_a_playlist():
    torn = m3u8.read(
        b"#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:2026-11-24T09:59:50Z\n#EXTINF:2,\na\n#EXT-X-DISCONTINUITY\n"
        b"#EXT-X-PROGRAM-DATE-TIME:2026-11-24T09:59:59Z\n#EXTINF:2,\nb\n"
    )
    assert torn.breaks_s() == [7.0]
    assert Watch().look(torn) == ""
    assert Watch(gap_max_s=1).look(torn) == "7.00 s between two segments"
    assert Watch(discontinuities_max=0).look(torn) == "1 discontinuities"
    assert Watch(discontinuities_max=1).look(torn) == ""


def test_what_is_missing_of_the_programme_is_counted_by_its_stamps():
    watch = Watch()
    watch.look(media(0, stamp_s=WALL_S))
    watch.look(media(1, stamp_s=WALL_S + 2))
    assert watch.rung.missing_s == 0
    watch.look(media(7, stamp_s=WALL_S + 22))  # 12 s of programme were listed before; 14 to 22 never was
    assert watch.rung.missing_s == 8
    watch.look(media(8, stamp_s=WALL_S + 24))
    assert watch.rung.missing_s == 8


def test_black_still_and_moving_pictures():
    black, grey = bytes([16]) * 100, bytes([90]) * 100
    assert hls_look.judge([black, black]) == "2 pictures are black"
    assert hls_look.judge([grey, grey, grey]) == "3 pictures stand still"
    assert hls_look.judge([grey, black, grey]) == ""
    assert hls_look.judge([grey]) == ""
