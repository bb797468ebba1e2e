"""The agent's own audit, and the bounds on what a controller may send."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from agent.audit import Audit
from agent.gate import ENDING, IN_FLIGHT_MAX, STOP, Gate, wrong_order, wrong_welcome
from agent.rate import Bucket
from protos import blackstart_agent_pb2 as pb


def rows(folder: Path) -> list[dict[str, object]]:
    lines = [line for name in ("audit.jsonl.1", "audit.jsonl") for line in _lines(folder / name)]
    return [json.loads(line) for line in lines]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_bucket_lets_through_a_burst_and_then_a_rate() -> None:
    now_s = [0.0]
    bucket = Bucket(3, 2.0, lambda: now_s[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now_s[0] = 0.5
    assert [bucket.take(), bucket.take()] == [True, False]
    now_s[0] = 100.0
    assert sum(bucket.take() for _ in range(10)) == 3


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    Audit(tmp_path).refused("fault.inject", "no\nsuch luck\x00", order="o\n1", run="r", actor="mallory")
    (row,) = rows(tmp_path)
    assert row["why"] == "no\nsuch luck\x00"
    assert row["order"] == "o\n1"
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_is_not_written_one_by_one_is_counted(tmp_path: Path) -> None:
    audit, now_s = Audit(tmp_path), [0.0]
    audit._bucket = Bucket(2, 1.0, lambda: now_s[0])
    audit._floods = Bucket(1, 1.0, lambda: now_s[0])
    for number in range(7):
        audit.refused("fault.inject", "too many", order=str(number), flood=True)
    audit.refused("fault.inject", "protected", order="hidden behind a flood?")
    audit.settle()
    for number in range(3):
        audit.refused("fault.inject", "protected", order=str(number))
    now_s[0] = 5.0
    audit.settle()
    audit.settle()
    found = rows(tmp_path)
    assert found[1]["order"] == "hidden behind a flood?"
    assert sum(int(str(row.get("unwritten", 0))) for row in found) + sum("order" in row for row in found) == 11


def test_the_audit_is_bounded_and_its_end_is_kept(tmp_path: Path) -> None:
    audit = Audit(tmp_path, bytes_max=2000)
    for number in range(100):
        audit.refused("fault.inject", "w" * 10_000, order=str(number))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 6000
    assert rows(tmp_path)[-1]["order"] == "99"


def test_an_audit_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "nowhere")
    audit.refused("fault.inject", "why", order="1")
    (tmp_path / "nowhere").mkdir()
    audit.refused("fault.inject", "why", order="2")
    (row,) = rows(tmp_path / "nowhere")
    assert (row["order"], row["unwritten"]) == ("2", 1)
    (tmp_path / "nowhere" / "audit.jsonl").unlink()
    (tmp_path / "nowhere" / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    audit.refused("fault.inject", "why", order="3")
    assert not (tmp_path / "elsewhere").exists()


def test_what_ends_faults_is_let_through_when_a_flood_is_not() -> None:
    gate = Gate()
    assert any(gate.flood("fault.inject", 0) for _ in range(1000))
    assert not any(gate.flood(kind, IN_FLIGHT_MAX) for kind in ENDING)
    for _ in range(1000):
        gate.flood("fault.revert", 0)
    assert not any(gate.flood(STOP, IN_FLIGHT_MAX) for _ in range(1000))
    assert "under way" in Gate().flood("fault.plan", IN_FLIGHT_MAX)


ORDER = {"id": "1", "kind": "fault.inject", "epoch": 1}


@pytest.mark.parametrize(
    "more",
    [
        {"id": ""}, {"kind": ""}, {"id": "x" * 129}, {"kind": "x" * 65}, {"run_id": "x" * 129}, {"actor": "x" * 257},
        {"epoch": 2**63}, {"deadline_s": math.nan}, {"deadline_s": -1}, {"deadline_s": math.inf},
        {"not_before_ns": -1}, {"not_before_ns": 61 * 10**9}, {"arguments_json": b" " * 262_145},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_orders_are_wrong(more: dict[str, object]) -> None:
    assert not wrong_order(pb.Order(**ORDER), 0)
    assert wrong_order(pb.Order(**{**ORDER, **more}), 0)


def test_terms_of_a_welcome() -> None:
    assert not wrong_welcome(pb.Welcome(epoch=3), False, 3)
    assert not wrong_welcome(pb.Welcome(epoch=4, lease_s=15, heartbeat_s=2), False, 3)
    assert "older" in wrong_welcome(pb.Welcome(epoch=2), False, 3)
    assert "second" in wrong_welcome(pb.Welcome(epoch=3), True, 3)
    for value in (math.nan, math.inf, -1.0, 1e-9, 1e308):
        assert "lease" in wrong_welcome(pb.Welcome(epoch=3, lease_s=value), False, 3)
        assert "heartbeat" in wrong_welcome(pb.Welcome(epoch=3, heartbeat_s=value), False, 3)
