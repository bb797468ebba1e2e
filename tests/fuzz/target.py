"""What is fuzzed: every place where bytes from outside are read, and what must hold of it."""

from __future__ import annotations

import asyncio
import fnmatch
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from agent import gate, policy, undo
from agent.faults import mangle_corrupt, mangle_dns
from agent.faults.base import Effect, Touched, Undo
from agent.journal import Journal
from agent.system import proc
from agent.system.queue_engine import Fate, Packet
from blackstart import document, structure
from controller.run import lint, signature
from controller.run.variable import substituted
from protos import blackstart_agent_pb2 as pb
from protos import column
from protos.catalogue import BY_CONTROLLER, catalogue
from protos.error import BlackstartError, RefusedError, SpecError
from protos.specification import check_spec
from tests.fuzz import seed
from tests.fuzz.seed import KINDS_SORTED
from tests.property import test_hostile_journal as journals_model
from tests.property import test_hostile_orders as orders_model

ORDERS: Final = (
    "fault.inject",
    "fault.plan",
    "probe.start",
    "probe.recovery",
    "probe.observe",
    "run.end",
    "fault.revert",
)
_SHM: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True)
class Target:
    """*check* raises when what must hold does not."""

    reads: str
    holds: str
    check: Callable[[bytes], None]
    seeds: list[bytes]


def order(kind: str, body: bytes) -> None:
    """The invariants of the property tests, over one order."""
    result, records = orders_model.answered(kind, body)
    assert "broke" not in result.message, result.message
    assert result.status != pb.STATUS_FAILED or not records
    if records:
        assert kind == "fault.inject"
        assert orders_model.in_good_form(body)
        assert records[0].step == "intent"


def orders(data: bytes) -> None:
    if data:
        order(ORDERS[data[0] % len(ORDERS)], data[1:])


def stream(data: bytes) -> None:
    """A message as it comes off the wire: through the gate, then carried out."""
    try:
        message = pb.ControllerMessage.FromString(data)
    except DecodeError:
        return
    gate.wrong_welcome(message.welcome, welcomed=False, seen_epoch=3)
    if not gate.wrong_order(message.order, 0):
        order(message.order.kind, message.order.arguments_json)


def policies(data: bytes) -> None:
    text = data.decode("utf-8", errors="replace")
    try:
        rules = policy.parse(text, "policy.yaml")
    except SpecError:
        return
    assert 0 < rules.longest_s <= policy.LONGEST_S_MAX
    assert not _allowed(rules, "process.kill", 1.0, Touched(processes=[_FIRST])), "pid 1 is never a target"
    assert not _allowed(rules, "process.kill", policy.LONGEST_S_MAX * 2, Touched())
    for kind in KINDS_SORTED:
        if not any(fnmatch.fnmatchcase(kind, pattern) for pattern in rules.faults):
            assert not _allowed(rules, kind, 1.0, Touched()), f"{kind} was not opted in"


_FIRST: Final = proc.identify(1) or proc.Identity(1, 0, "init")


def _allowed(rules: policy.Policy, kind: str, duration_s: float, touches: Touched) -> bool:
    effect = Effect(fault=kind, resource="r", description="d", undo=Undo.KERNEL, facts={}, touches=touches)
    try:
        rules.check(effect, duration_s, [])
    except RefusedError:
        return False
    return True


def journals(data: bytes) -> None:
    """Lines that start with `!` are given the checksum that they need, so that what is behind it is reached."""
    lines = [b"%08x %b" % (zlib.crc32(line[1:]), line[1:]) if line[:1] == b"!" else line for line in data.split(b"\n")]
    before = journals_model.written([("a", "intent"), ("b", "intent")])
    with tempfile.TemporaryDirectory(dir=_SHM) as folder:
        Path(folder, "journal").write_bytes(before + b"\n".join(lines))
        opened = Journal(Path(folder))
        try:
            _read(opened, lines)
        finally:
            opened.close()


def _read(opened: Journal, lines: list[bytes]) -> None:
    records, torn = opened.records()
    assert [record.effect.id for record in records[:2]] == ["a", "b"]
    assert len(records) + torn == 2 + len([line for line in lines if line])
    good = [line for line in lines if line[:9] == b"%08x " % zlib.crc32(line[9:])]
    assert len(records) - 2 <= len(good), "a line without its checksum counts"
    known = {record.effect.id for record in records}
    fault = journals_model.Recorder()
    faults: Any = {"test.fault": fault}
    left = asyncio.run(undo.revert_all(opened, faults, opened.in_force(), "fuzz"))
    assert set(fault.reverted) <= known
    ended = {name for name, rest in left.items() if not rest}
    assert not ended & {effect.id for effect in opened.in_force()}
    opened.append(journals_model.record("z", "intent"))
    assert "z" in {effect.id for effect in opened.in_force()}


def specs(data: bytes) -> None:
    """What the command line finds wrong, the agent refuses, and the other way round."""
    if not data:
        return
    kind = KINDS_SORTED[data[0] % len(KINDS_SORTED)]
    try:
        spec = msgspec.json.decode(data[1:])
    except (ValueError, RecursionError):
        return
    if not isinstance(spec, dict) or set(spec) & set(BY_CONTROLLER.get(kind, {})):
        check_spec(kind, spec)
        return
    try:
        msgspec.convert(spec, orders_model.FAULTS[kind].spec)
        refused = False
    except msgspec.ValidationError:
        refused = True
    if not _beyond_schema(spec):
        assert bool(check_spec(kind, spec)) == refused, (kind, spec)


def _beyond_schema(value: Any) -> bool:
    """What JSON Schema and the agent's types are known to see differently: 3.0 for 3, huge numbers, variables."""
    if isinstance(value, dict):
        return any(map(_beyond_schema, [*value, *value.values()]))
    if isinstance(value, list):
        return any(map(_beyond_schema, value))
    if isinstance(value, str):
        return "${" in value
    return (isinstance(value, float) and value.is_integer()) or (isinstance(value, int | float) and abs(value) >= 2**53)


def experiments(data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=_SHM) as folder:
        path = Path(folder, "experiment.yaml")
        path.write_bytes(data)
        try:
            loaded = document.load_mapping(path)
        except SpecError:
            return
    structure.check(loaded)
    content = loaded.content
    try:
        lint.lint(content, lint.Allowed())
    except SpecError:
        return
    assert isinstance(content, dict)
    list(signature.calls(content))
    try:
        substituted(content, content, {})
    except BlackstartError:
        return


def packets(data: bytes) -> None:
    """Whatever passes a packet queue: it is let through, or changed into a packet of the same addresses."""
    if len(data) < 2 or (data[1] >> 4 != 6 and not 0x45 <= data[1] <= 0x4F):
        return  # the rules are of these two families, and the kernel drops headers that are too short
    packet = Packet(bytearray(data[1:]))
    packet.end = packet.length = len(data) - 1
    if len(data) - 1 < (20 if data[1] >> 4 == 4 else 40):
        return  # so is the kernel's own check of lengths
    modes = ("nxdomain", "servfail", "wrong", "slow", "timeout")
    arguments = {"names": [], "mode": modes[data[0] % 5], "addresses": ["c0000209"], "delay_ms": 1.0}
    for decide in (mangle_dns.decider(arguments), lambda one, _: mangle_corrupt.decide(one)):
        fate = decide(packet, 0)
        if isinstance(fate, Fate) and fate.payload is not None:
            start, end = (12, 20) if data[1] >> 4 == 4 else (8, 40)
            assert fate.payload[start:end] == data[1 + start : 1 + end]


def columns(data: bytes) -> None:
    """Telemetry as agents pack it."""
    for unpack, pack in (
        (column.unpack_int64, column.pack_int64), (column.unpack_float64, column.pack_float64),
        (column.unpack_uint8, column.pack_uint8),
    ):  # fmt: skip
        try:
            values = unpack(data)
        except SpecError:
            continue
        assert pack(values) == data


TARGETS: Final = {
    "orders": Target(
        "arguments of orders", "answered, never broken; only what is in good form begins", orders, seed.examples()
    ),
    "stream": Target("messages of the controller, off the wire", "as orders", stream, seed.messages()),
    "policies": Target(
        "a node's policy file", "an error, or a policy that lets nothing through that it does not name", policies,
        [seed.POLICY, b"faults: ['*']\neffects_max: 3\nprotected_addresses: [10.0.0.1]\n"],
    ),
    "journals": Target(
        "the agent's journal", "whole records before the damage count, no line counts without its checksum", journals,
        [b"!" + line[9:] for line in journals_model.written([("c", "injected"), ("c", "stranded")]).splitlines()],
    ),
    "specs": Target(
        "specs of every fault", "the catalogue's schema refuses what the agent refuses, and nothing else", specs,
        [
            bytes([number]) + msgspec.json.encode(catalogue()[kind]["page"]["example"])
            for number, kind in enumerate(KINDS_SORTED)
        ],
    ),
    "experiments": Target("experiment files", "an error with its place, or a document", experiments,
                          seed.files("experiments/*/*.yaml")),
    "packets": Target("packets in a queue", "let through, or changed with its addresses kept", packets, seed.answers()),
    "columns": Target("telemetry", "refused, or packed again to the same bytes", columns, [bytes(16), bytes(8)]),
}  # fmt: skip
