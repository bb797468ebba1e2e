"""The ledger's file where there is no room for it, and rows of `verified_write` that are nobody else's."""

from __future__ import annotations

import os

import pytest

from agent.probes import ledger
from agent.probes.ledger import Ledger
from protos.error import ProbeError


def test_a_full_disk_is_no_failure_of_the_service_and_forgets_nothing(tmp_path, monkeypatch):
    made, real, room = Ledger(tmp_path / "ledger_x"), os.write, [25 * 3 + 10]

    def write(descriptor, content):
        taken = min(len(content), room[0])
        room[0] -= taken
        if content and not taken:
            raise OSError(28, "No space left on device")
        return real(descriptor, content[:taken])

    monkeypatch.setattr(os, "write", write)
    for number in range(5):
        assert made.send() == number
        if number < 3:
            made.acknowledged(number)
        else:
            with pytest.raises(ProbeError, match="ledger"):
                made.acknowledged(number)
    assert all(made.written().acknowledged_ns)
    room[0] = 1_000
    made.send()
    made.acknowledged(5)
    made.close(keep=True)
    assert sorted(ledger.read(tmp_path / "ledger_x")) == [0, 1, 2, 5], "no entry is torn by the one before"
