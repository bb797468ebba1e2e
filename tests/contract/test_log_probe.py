"""The log probe on real files: what was there before is passed over, rotation is followed, pipes say nothing."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from agent.probes import log, registry
from protos.error import SpecError
from protos.recovery import Code


def probe(*paths, marks=None):
    spec = {"paths": [str(path) for path in paths], "marks": marks or {"up": ["server */db2 is UP", "ready"]}}
    return registry.build("log", spec, lambda _: False)


def test_lines_are_found_once_between_two_looks(tmp_path):
    file, late = tmp_path / "a.log", tmp_path / "late.log"
    file.write_text("ready, long ago\n")

    async def body():
        made = probe(file, late)
        await made.open()
        assert await made.attempt(1) is Code.OK
        assert made.marks == []
        before = time.monotonic_ns()
        with file.open("a") as out:
            out.write("server primary/db1 is UP\nserver primary/db2 is UP\nhalf a line: rea")
        late.write_text("ready\n")  # made after the start: all of it is new
        await made.attempt(1)
        after = time.monotonic_ns()
        assert [(row["mark"], row["path"], row["text"]) for row in made.marks] == [
            ("up", str(file), "server */db2 is UP"), ("up", str(late), "ready"),
        ]  # fmt: skip
        assert all(row["lo_ns"] <= before and before <= row["hi_ns"] <= after for row in made.marks)
        with file.open("a") as out:
            out.write("dy\n")
        file.rename(tmp_path / "a.log.1")
        file.write_text("ready in the new file\n")
        await made.attempt(1)
        assert len(made.marks) == 4, "the end of the old file, and the new one from its start"
        file.write_text("ready\n")  # cut short, and written again
        await made.attempt(1)
        assert len(made.marks) == 5
        await made.attempt(1)
        assert len(made.marks) == 5
        await made.close()

    asyncio.run(body())


def test_what_one_look_cannot_read_keeps_the_bound_of_the_look_before(tmp_path):
    file = tmp_path / "much"
    file.touch()

    async def body():
        made = probe(file)
        await made.open()
        before = time.monotonic_ns()
        file.write_text("x" * 2_000_000 + "\nready\n")
        written = time.monotonic_ns()
        while not made.marks:
            await made.attempt(1)
        (row,) = made.marks
        assert row["lo_ns"] <= before < written <= row["hi_ns"], "it was there before the look that came to it"
        await made.close()

    asyncio.run(asyncio.wait_for(body(), 10))


def test_pipes_and_long_lines_neither_hang_nor_grow(tmp_path):
    fifo, file = tmp_path / "fifo", tmp_path / "long"
    os.mkfifo(fifo)
    file.touch()

    async def body():
        made = probe(fifo, file, tmp_path)
        await made.open()
        with file.open("a") as out:
            for _ in range(40):
                out.write("x" * 100_000)
                out.flush()
                assert await made.attempt(1) is Code.OK
            out.write("\n" + "ready\n" * (log.MARKS_MAX + 7))
        await made.attempt(1)
        await made.attempt(1)
        assert (len(made.marks), made.overflow) == (log.MARKS_MAX, 7)
        await made.close()

    asyncio.run(asyncio.wait_for(body(), 10))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"paths": [], "marks": {"a": ["x"]}}, "paths"),
        ({"paths": ["relative.log"], "marks": {"a": ["x"]}}, "not an absolute path"),
        ({"paths": ["/x"], "marks": {}}, "marks"),
        ({"paths": ["/x"], "marks": {"a": []}}, "marks"),
        ({"paths": ["/x"], "marks": {"a": ["**"]}}, "empty"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said(spec, said):
    with pytest.raises(SpecError, match=said):
        registry.build("log", spec, lambda _: False)
