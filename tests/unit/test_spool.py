"""The spool: nothing lost within the bound, nothing counted twice, no sequence used again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.spool import Spool


class SpoolAgainstAList(RuleBasedStateMachine):
    """Puts, acknowledgements and restarts against a plain list of what must still be there."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.folder.name))
        self.kept: list[tuple[int, bytes]] = []
        self.used = 0

    @rule(payload=st.binary(min_size=1, max_size=20))
    def put(self, payload: bytes) -> None:
        sequence = self.spool.put(payload)
        assert sequence > self.used
        self.used = sequence
        self.kept.append((sequence, payload))

    @rule(part=st.floats(0, 1))
    def acknowledge(self, part: float) -> None:
        at = int(part * len(self.kept))
        if at:
            self.spool.acknowledge(self.kept[at - 1][0])
            self.kept = self.kept[at:]

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool(Path(self.folder.name))

    @invariant()
    def holds_what_was_not_acknowledged(self) -> None:
        assert self.spool.after(0, 10_000) == self.kept
        assert len(self.spool) == len(self.kept)

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestSpool = SpoolAgainstAList.TestCase
TestSpool.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


Open = Callable[..., Spool]


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[Open]:
    """Opens the spool in one folder, as an agent that starts again does, and closes all of them."""
    with contextlib.ExitStack() as held:
        yield lambda **more: held.enter_context(contextlib.closing(Spool(tmp_path, **more)))


def test_the_bound_drops_the_oldest_and_counts(spools: Open) -> None:
    spool = spools(bytes_max=1000)
    sequences = [spool.put(b"x" * 100) for _ in range(25)]
    left = [sequence for sequence, _ in spool.after(0)]
    assert left == sequences[-len(left) :]
    assert spool.dropped == 25 - len(left)
    assert len(left) <= 10
    assert spools().dropped == spool.dropped


def test_a_full_disk_keeps_messages_in_memory(spools: Open) -> None:
    spool = spools()
    first = spool.put(b"on disk")
    pages = spool._db.execute("pragma page_count").fetchone()[0]
    spool._db.execute(f"pragma max_page_count = {pages}")
    more = [spool.put(b"y" * 3000) for _ in range(5)]
    assert [sequence for sequence, _ in spool.after(0)] == [first, *more]
    assert spool._memory
    spool.acknowledge(more[-1])
    assert len(spool) == 0


def test_an_order_is_begun_once_also_across_restarts(spools: Open) -> None:
    spool = spools()
    assert spool.begin_order("a") is None
    assert spool.begin_order("a") == b""
    spool.close()
    spool = spools()
    assert spool.unfinished_orders() == ["a"]
    spool.end_order("a", b"done")
    assert spool.begin_order("a") == b"done"
    assert spool.unfinished_orders() == []


def test_the_epoch_outlives_the_process(spools: Open) -> None:
    spool = spools()
    spool.epoch = 7
    spool.close()
    assert spools().epoch == 7


def test_what_a_controller_has_acknowledged_is_never_used_again(spools: Open) -> None:
    spool = spools()
    spool.skip_to(5000)
    assert spool.put(b"x") > 5000
