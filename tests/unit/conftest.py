"""What the tests of the command line share: a scripted controller, and an experiment in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protos import blackstart_operator_pb2 as pb
from tests.scripted_operator import Script, Served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = """\
version: 1.0.0
title: t
description: d
configuration:
  port: 80
  host: {type: env, key: TEST_FARM_HOST, default: nowhere}
method: []
"""


@pytest.fixture
def script() -> Script:
    return Script(events=[pb.RunEvent(run_id="r1", number=1, kind="fault.injected", message="took hold")])


@pytest.fixture
def served(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with Served(script) as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from anywhere."""
    for name in ("BLACKSTART_CONTROLLER", "BLACKSTART_CERTS", "BLACKSTART_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD)
    return path
