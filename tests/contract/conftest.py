"""Fixtures of the contract tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.probes.engine import ProbeEngine
from tests.chaos.case import wait_until
from tests.chaos.subject.file import directory
from tests.contract import postgres_rig
from tests.contract.file_rig import servers


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server or a mount that a test leaves is its failure."""
    monkeypatch.setenv("BLACKSTART_TEST", str(os.getpid()))
    yield
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not servers(), 3.0)
    left = servers()
    for pid in left:
        os.kill(pid, 9)
    assert not left, "a server is left"


@pytest.fixture
def place() -> Iterator[Path]:
    with directory() as made:
        yield made


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ProbeEngine]:
    """With a place for ledgers."""
    made = ProbeEngine(sink=lambda *_: None, ledgers=tmp_path)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def sql_server() -> Iterator[postgres_rig.Postgres]:
    """A real PostgreSQL, for all of these tests."""
    if told := postgres_rig.missing():
        pytest.skip(told)
    made = postgres_rig.Postgres()
    made.start()
    yield made
    made.remove()
