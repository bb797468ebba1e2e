"""The committed gRPC code is what `make protos` makes of the .proto files, and nobody edited it by hand.

`make protos` writes the digests of both into protos/generated.sha256; they need neither network nor compiler to check.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from protos import blackstart_agent_pb2, blackstart_operator_pb2

ROOT = Path(__file__).parents[2]
DIGESTS = ROOT / "protos" / "generated.sha256"
REMEDY = "run `make protos` and commit what it changes"


def recorded() -> dict[str, str]:
    return {name: digest for digest, name in (line.split() for line in DIGESTS.read_text().splitlines())}


def test_every_proto_and_generated_file_is_as_recorded():
    files = sorted([*ROOT.glob("protos/*.proto"), *ROOT.glob("protos/*_pb2*.py*")])
    now = {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    was = recorded()
    changed = sorted(name for name in now.keys() | was.keys() if now.get(name) != was.get(name))
    assert not changed, f"changed since the code was generated: {changed}: {REMEDY}"


def test_the_generated_code_has_the_messages_and_calls_of_the_protos():
    for module in (blackstart_agent_pb2, blackstart_operator_pb2):
        descriptor = module.DESCRIPTOR
        text = re.sub(r"//.*", "", (ROOT / descriptor.name).read_text())
        assert descriptor.package == "blackstart.v1"
        services = descriptor.services_by_name.values()
        calls = {method.name for service in services for method in service.methods}
        assert set(re.findall(r"\brpc\s+(\w+)", text)) == calls, REMEDY
        assert set(re.findall(r"^message\s+(\w+)", text, re.MULTILINE)) == set(descriptor.message_types_by_name), REMEDY


def test_the_code_runs_on_the_oldest_grpc_that_we_allow():
    floor = re.search(r'"grpcio>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert floor is not None
    for path in ROOT.glob("protos/*_pb2_grpc.py"):
        assert f"GRPC_GENERATED_VERSION = '{floor[1]}'" in path.read_text(), REMEDY
