"""The probe of an encode workload's speed: what it calls slow, and when it says nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.probes import encode
from agent.probes.base import read_spec
from agent.probes.encode import EncodeProbe, EncodeProbeSpec
from agent.probes.record import Record
from agent.system import board
from protos.error import SpecError
from protos.recovery import Code

STEP_S = 0.2


class Node:
    """A board that two workers write to, and a clock that is set by hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **spec: float) -> None:
        self.now, self.folder = 1000.0, folder
        monkeypatch.setattr(encode.time, "monotonic", lambda: self.now)
        self.begin()
        self.probe = EncodeProbe(EncodeProbeSpec(**spec))
        self.probe.folder = folder

    def begin(self) -> None:
        board.make(self.folder / "board", 2)
        self.slots = [board.Slot(self.folder / "board", number) for number in range(2)]

    def goes_on(self, seconds: float, *rates: float) -> list[Code]:
        """Each worker at its rate, pictures/s, asked five times a second."""
        found = []
        for _ in range(round(seconds / STEP_S)):
            self.now += STEP_S
            for slot, rate in zip(self.slots, rates, strict=True):
                slot.tick(round(rate * STEP_S))
            found.append(asyncio.run(self.probe.attempt(1.0)))
        return found


def test_half_the_speed_is_bad_within_a_tenth_of_the_window_and_good_a_window_after(tmp_path, monkeypatch):
    node = Node(tmp_path, monkeypatch, window_s=5, reference_s=10)
    assert set(node.goes_on(9.8, 50, 50)) == {Code.ERROR}, "too short to say what is usual"
    node.goes_on(1, 50, 50)
    assert set(node.goes_on(10, 50, 50)) == {Code.OK}
    assert node.probe.reference == pytest.approx(100)
    slow = node.goes_on(10, 50, 0)
    assert slow.index(Code.BAD) <= 3
    assert set(slow[3:]) == {Code.BAD}
    again = node.goes_on(10, 50, 50)
    assert again.index(Code.OK) == pytest.approx(5 / STEP_S, abs=4), "never before the window is as good as whole"
    assert set(again[again.index(Code.OK) :]) == {Code.OK}
    (figure,) = node.probe.figures(Record(1, 10))
    assert figure.value == pytest.approx(0.5, abs=0.02)


def test_without_an_encoding_there_is_no_data_and_another_one_has_its_own_speed(tmp_path, monkeypatch):
    node = Node(tmp_path, monkeypatch, window_s=1, reference_s=2)
    node.goes_on(5, 50, 50)
    (tmp_path / "board").unlink()
    assert set(node.goes_on(1, 50, 50)) == {Code.ERROR}
    node.begin()
    assert Code.OK not in node.goes_on(1.8, 10, 10)
    assert node.goes_on(2, 10, 10)[-1] == Code.OK
    assert node.probe.reference == pytest.approx(20)


def test_a_workload_that_has_not_begun_is_no_reference(tmp_path, monkeypatch):
    node = Node(tmp_path, monkeypatch, window_s=1, reference_s=2)
    assert set(node.goes_on(30, 0, 0)) == {Code.ERROR}
    node.goes_on(4, 50, 50)
    assert node.probe.reference == pytest.approx(100, rel=0.1)


def test_an_agent_that_encodes_nowhere_has_no_data(tmp_path, monkeypatch):
    node = Node(tmp_path, monkeypatch)
    node.probe.folder = None
    assert set(node.goes_on(1, 50, 50)) == {Code.ERROR}


@pytest.mark.parametrize(
    ("field", "value"),
    [("at_least_fraction", 0), ("at_least_fraction", 1.5), ("window_s", 0.01), ("reference_s", float("inf"))],
)
def test_what_cannot_be_asked(field, value):
    with pytest.raises(SpecError, match=field):
        read_spec("encode", EncodeProbeSpec, {field: value})
