"""The HTML report and its drawings, without a browser: nothing foreign gets in, nothing is fetched or hidden."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.report.lane import FAILING, GOOD, NO_DATA, Scale, spans
from controller.report.page import figure_origin, to_html
from controller.report.timeline import close_ups, run_chart, ticks
from tests.unit.report_sample import (
    MS,
    T0_NS,
    S,
    certified,
    cpu_run,
    effect,
    frozen_run,
    gameday,
    injection,
    recovery,
    run,
    skipped_run,
    unproven_run,
)

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'</title></style>"
STRANDED = effect(T0_NS, state="stranded", was_stranded=True, remedy="nft destroy table inet b_7")
VOID = {"meta", "link", "br", "img", "input", "hr"}
SCALE = Scale(T0_NS, T0_NS + 100 * S, T0_NS, 190.0, 1106.0)


class Reader(HTMLParser):
    """Elements of a page with their attributes; fails on tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(*documents: object, title: str = "Quickstart") -> str:
    return to_html(documents, title).decode()  # type: ignore[arg-type]


def test_every_run_is_told_with_its_reasons():
    text = " ".join(" ".join(Reader(page(*gameday())).words).split())
    for document in gameday():
        assert document.title in text
        assert all(reason in text for reason in document.reasons)
    assert "1.41 s" in text
    assert "[1.39, 1.43]" in text
    assert "SIGSTOP to the tree of process 4750" in text
    assert "What is missing: network.partition needs root and nftables" in text
    assert "measured: frames out over wall time, 2,229 samples, bounds 73.9 to 74.8" in text
    assert "zero residue: certified on 1 agent" in text


def test_the_page_asks_for_nothing_from_elsewhere():
    for tag, attributes in Reader(page(*gameday())).elements:
        assert tag not in {"script", "iframe", "img", "object", "embed", "form", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"href", "src", "action", "data"}:
                assert value is not None
                assert value.startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import", page(*gameday()))


def test_a_hostile_document_injects_no_markup():
    def poison(value: object) -> object:
        if isinstance(value, str) and value not in {"held", "completed", "after", "before", "met"}:
            return HOSTILE
        if isinstance(value, tuple):
            return tuple(poison(item) for item in value)
        if hasattr(value, "__dataclass_fields__"):
            changes = {f.name: poison(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
            return replace(value, **changes)  # type: ignore[type-var]
        return value

    bad = poison(replace(run(), figures=(), variables={HOSTILE: HOSTILE}))
    clean, poisoned = Reader(page(run())), Reader(page(bad, replace(skipped_run(), skipped=HOSTILE), title=HOSTILE))
    names = {tag for tag, _ in clean.elements}
    assert {tag for tag, _ in poisoned.elements} - names == set()
    assert not any(name.startswith("on") for _, attributes in poisoned.elements for name in attributes)
    assert "{{ 7*7 }}" in "".join(poisoned.words)


def test_tables_and_drawings_can_be_read_aloud():
    elements = Reader(page(*gameday())).elements
    tables = sum(tag == "table" for tag, _ in elements)
    assert tables == sum(tag == "caption" for tag, _ in elements)
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")
    drawings = [attributes for tag, attributes in elements if tag == "svg" and attributes.get("role") == "img"]
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert drawings
    assert all(set((drawing["aria-labelledby"] or "").split()) <= set(ids) for drawing in drawings)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"residue_checked": False}, "nothing is certified"),
        ({"residue": ("worker-1: table blackstart_7",)}, "1 trace left behind. A human must clean up."),
        ({"injections": (), "certificates": ()}, "nothing to audit"),
        ({}, "zero residue: certified on 1 agent; 12 things compared before and after."),
        ({"certificates": ()}, "not certified: the agent made no certificate"),
        ({"certificates": (certified(given=False),)}, "not certified on worker-1: the agent made no certificate"),
        ({"certificates": (certified(ours=("+ tables: b_7",)),)}, "1 trace left behind. A human must clean up."),
        ({"certificates": (certified(ours=("+ tables: b_7",)),)}, "worker-1: + tables: b_7"),
        ({"certificates": (certified(ours=("+ tables: b_7",), cleared=True),)}, "zero residue: certified on 1 agent"),
        ({"injections": (injection(effects=(STRANDED,)),)}, "by hand: nft destroy table inet b_7"),
        ({"injections": (injection(effects=(replace(STRANDED, state="reverted"),)),)}, "was cleared since"),
        ({}, "+ routes: 10.9.0.0/24 dev eth1"),
        ({"certificates": (certified(others=tuple(f"+ routes: {n}" for n in range(9))),)}, "<summary>9 changes"),
    ],
)
def test_the_certificate_certifies_only_what_was_audited(changes: dict[str, object], said: str):
    assert said in page(run(**changes))


def test_a_page_can_be_made_of_anything_that_can_happen():
    for document in (
        run(probes=(), injections=(), recoveries=()),
        run(ended_wall_ns=0),
        run(started_wall_ns=0, ended_wall_ns=0, injections=(), recoveries=(), probes=()),
        run(recoveries=(recovery(after="never injected"),)),
        run(recoveries=(recovery(recovery=None, outages=(), result="missed", rto_s=None),)),
        unproven_run(),
    ):
        Reader(page(document))
    Reader(page())


def test_the_origin_of_a_figure_is_told_or_known_to_be_unknown():
    assert (
        figure_origin({"provenance": {"kind": "modelled", "model": "m", "inputs": ["a", "b"]}})
        == "modelled by m from a, b"
    )
    assert figure_origin({"provenance": {"kind": "assumed", "source": "a list", "date": "2026-01-01"}}).startswith(
        "assumed"
    )
    assert figure_origin({}) == "origin unknown"


def test_the_chart_has_lanes_in_order_and_a_close_up_shows_the_bounds():
    chart = run_chart(run())
    assert chart is not None
    assert [lane.name for lane in chart.injections] == ["kill-worker"]
    assert [lane.name for lane in chart.probes] == ["segments", "worker-alive"]
    (near,) = close_ups(run())
    (measured,) = near.probes[0].recoveries
    assert measured.hi_x - measured.lo_x > 5
    assert measured.start_x < measured.lo_x < measured.end_x < measured.hi_x
    assert close_ups(cpu_run()) == ()


def test_a_force_that_was_reverted_ends_there_and_one_that_was_not_ends_with_the_run():
    chart = run_chart(frozen_run())
    assert chart is not None
    lane = chart.injections[0]
    assert lane.bar is not None
    assert lane.ended
    assert lane.bar.x + lane.bar.width < chart.right
    stuck = replace(frozen_run().injections[0].effects[0], state="stranded", reverted_wall_ns=0)
    chart = run_chart(replace(frozen_run(), injections=(replace(frozen_run().injections[0], effects=(stuck,)),)))
    assert chart is not None
    lane = chart.injections[0]
    assert lane.bar is not None
    assert not lane.ended
    assert lane.bar.x + lane.bar.width == pytest.approx(chart.right)


def test_a_failure_of_a_moment_can_be_seen():
    drawn = spans(((T0_NS, GOOD), (T0_NS + 50 * S, FAILING), (T0_NS + 50 * S + MS, GOOD)), SCALE)
    assert [span.state for span in drawn] == [GOOD, FAILING, GOOD]
    assert drawn[1].width >= 1.5


@given(st.lists(st.tuples(st.integers(1, 200), st.sampled_from([GOOD, FAILING, NO_DATA])), max_size=900))
def test_however_much_it_flaps_the_drawing_stays_small_and_inside(changes: list[tuple[int, int]]):
    timeline, at = [], T0_NS
    for gap_ms, state in changes:
        timeline.append((at, state))
        at += gap_ms * MS
    drawn = spans(tuple(timeline), SCALE)
    assert len(drawn) <= 920
    assert all(SCALE.left - 1 <= span.x and span.x + span.width <= SCALE.right + 1.6 for span in drawn)
    seen = {state for (_, state), end in pairwise(timeline) if end[0] <= SCALE.end_ns}
    assert FAILING not in seen or any(span.state == FAILING for span in drawn)


@given(st.integers(1, 7_200_000), st.floats(0, 0.5))
def test_ticks_are_few_round_and_inside(length_ms: int, before: float):
    origin = T0_NS + int(length_ms * MS * before)
    made = ticks(Scale(T0_NS, T0_NS + length_ms * MS, origin, 190.0, 1106.0))
    assert 1 <= len(made) <= 12
    assert all(190.0 <= tick.x <= 1106.0 for tick in made)
    assert len({tick.label for tick in made}) == len(made)
