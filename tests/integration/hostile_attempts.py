"""What a hostile controller asks for: each attempt is a kind of order and its arguments, made for a node.

None of them may change anything: `tests/integration/test_hostile_controller.py` makes every one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.faults.registry import KINDS, all_faults
from agent.system import proc
from tests.integration.hostile_rig import Node

OPTED = ("process.pause", "network.partition", "resource.cpu")
POLICY = """
faults: [process.pause, network.partition, resource.cpu]
longest_s: 30
effects_max: 2
protected_addresses: [10.0.0.9, "fd00::9"]
protected_processes: ["blackstart-*", "guarded-*"]
protected_ports: [22, 5432]
commands: [["/bin/true"], ["/bin/echo", "*"]]
"""
Order = tuple[str, Any]
Attempt = Callable[[Node], Order]
ATTEMPTS: dict[str, Attempt] = {}


def inject(fault: str, spec: Any, **more: Any) -> Order:
    return "fault.inject", {"injection": "i", "fault": fault, "spec": spec, "duration_s": 10.0} | more


def raw(**fields: str) -> bytes:
    """An injection with parts of JSON that no encoder would write."""
    given = {"injection": '"i"', "fault": '"resource.cpu"', "spec": "{}", "duration_s": "10"} | fields
    return ("{" + ", ".join(f'"{name}": {text}' for name, text in given.items()) + "}").encode()


def asked(arguments: Any) -> str:
    """Which fault an order asks for; empty for an order of none."""
    fault = arguments.get("fault") if isinstance(arguments, dict) else None
    return fault if isinstance(fault, str) else ""


def _add(name: str, attempt: Attempt) -> None:
    assert name not in ATTEMPTS
    ATTEMPTS[name] = attempt


def _kinds() -> None:
    for kind in KINDS:
        if kind not in OPTED:
            example = all_faults()[kind].page.example
            _add(f"kind {kind}", lambda _, kind=kind, example=example: inject(kind, example))
    for name, kind in {"of nothing": "", "unknown": "process.obey", "pattern": "*", "padded": "process.pause ",
                       "dunder": "__class__", "list": ["process.pause"],
                       "number": 7, "null": None}.items():  # fmt: skip
        _add(f"kind {name}", lambda node, kind=kind: inject(kind, {"pid": node.target}))


def _durations() -> None:
    texts = ("30.001", "1e308", "1e999", "-1", "0", "-0.0", "NaN", "Infinity", '"5"', '"inf"', "null", "true", "[5]",
             "9" * 400, "1e-400")  # fmt: skip
    for text in texts:
        _add(f"duration {text[:12]}", lambda _, text=text: ("fault.inject", raw(duration_s=text)))
        if text not in ("0", "-0.0", "1e-400", "true"):  # a plan without a duration is one of any
            planned = raw(duration_s=text).replace(b'"injection": "i", ', b"")
            _add(f"plan for {text[:12]}", lambda _, planned=planned: ("fault.plan", planned))


def _processes() -> None:
    def by_pid(name: str, pid: Callable[[Node], Any]) -> None:
        _add(f"process {name}", lambda node: inject("process.pause", {"pid": pid(node)}))
        _add(f"process {name}, alone", lambda node: inject("process.pause", {"pid": pid(node), "tree": False}))
        _add(f"pid_file of {name}", lambda node: inject("process.pause", {"pid_file": _pid_file(node, pid(node))}))

    by_pid("agent", lambda node: node.process.pid)
    by_pid("guardian", lambda node: node.child("agent.guardian"))
    by_pid("thread of the agent", lambda node: max(proc.threads(node.process.pid)))
    by_pid("above the agent", lambda node: _parent(node.process.pid))
    by_pid("pid 1", lambda _: 1)
    by_pid("kernel thread", lambda _: 2)
    by_pid("of nobody", lambda _: 2**22 + 1)
    for value in (0, -1, 2**31, 2**63, 2**64, 10**30, 1.5, "1", None, [1]):
        _add(f"pid {value!r}"[:40], lambda node, value=value: inject("process.pause", {"pid": value}))
    for pattern in (".*", "", "^", "python", "agent", "guardian", "target-|agent run", "(", "guarded-", "(?i)AGENT"):
        _add(f"pattern {pattern!r}", lambda _, pattern=pattern: inject("process.pause", {"pattern": pattern}))
    _add("more targets than effects", lambda _: inject("process.pause", {"pattern": "target-[0-9]"}))
    for path in ("/dev/null", "/proc/self/mem", "/etc", "/nonexistent", "a\0b", "../../../../proc/1/stat"):
        _add(f"pid_file {path!r}", lambda _, path=path: inject("process.pause", {"pid_file": path}))


def _pid_file(node: Node, pid: Any) -> str:
    path = node.state.parent / "pid"
    path.write_text(str(pid))
    link = node.state.parent / "pid-link"
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return str(link)


def _parent(pid: int) -> int:
    found = proc.stat(pid)
    assert found is not None
    return found.parent


def _addresses() -> None:
    peers = (
        "10.0.0.9", "10.0.0.9/32", "10.0.0.8/255.255.255.252", "10.0.0.0/8", "0.0.0.0/0", "0.0.0.0", "127.0.0.1",
        "::ffff:10.0.0.9", "::ffff:a00:9/128", "::ffff:10.0.0.0/120", "::ffff:0:0/96", "64:ff9b::a00:9", "fd00::9",
        "fd00::/8", "::/0", "fd00:0:0::9", "fe80::1", "fe80::/10", "ff02::1:ff00:9", "localhost", "example.org",
        "010.0.0.9", "0xa000009", "167772169", "10.9", " 10.0.0.9", "10.0.0.9\n", "10.0.0.7 }; flush ruleset", "", "/",
        "10.0.0.7/-1", "10.0.0.7/33", "*",
    )  # fmt: skip
    for peer in peers:
        _add(f"peer {peer!r}", lambda _, peer=peer: inject("network.partition", {"peers": ["10.0.0.200", peer]}))
    for name, spec in {
        "two halves": {"peers": ["0.0.0.0/1", "128.0.0.0/1"]}, "none": {"peers": []}, "no list": {"peers": "10.0.0.7"},
        "numbers": {"peers": [167772169]}, "nested": {"peers": [["10.0.0.9"]]}, "two": [1, 2],
        "ssh": {"peers": ["10.0.0.7"], "ports": [22]}, "port 65558": {"peers": ["10.0.0.7"], "ports": [65558]},
        "database": {"peers": ["10.0.0.7"], "ports": [80, 5432], "protocol": "tcp"},
        "port 0": {"peers": ["10.0.0.7"], "ports": [0]}, "sideways": {"peers": ["10.0.0.7"], "direction": "sideways"},
        "one way": {"peers": ["10.0.0.0/24"], "direction": "in"}, "by port": {"peers": ["10.0.0.9"], "ports": [80]},
    }.items():  # fmt: skip
        _add(f"cut {name}", lambda _, spec=spec: inject("network.partition", spec))
    for name, pid in {
        "agent": lambda node: node.process.pid, "guardian": lambda node: node.child("agent.guardian"),
        "thread": lambda node: max(proc.threads(node.process.pid)), "target": lambda node: node.target,
        "nobody": lambda _: 2**22 + 1,
    }.items():  # fmt: skip
        _add(
            f"network of {name}",
            lambda node, pid=pid: inject(
                "network.partition", {"peers": ["10.0.0.9"], "network_of": {"pid": pid(node)}}
            ),
        )


def _malformed() -> None:
    bodies = {
        "not JSON": b"{", "empty array": b"[]", "array": b"[1, 2]", "text": b'"x"', "number": b"7", "null": b"null",
        "bad UTF-8": b'{"fault": "\xff"}', "bad UTF-8 key": b'{"\xc3\x28": 1}', "NUL": b"\0", "BOM": b"\xef\xbb\xbf{}",
        "lone surrogate": b'{"fault": "\\ud800"}', "deep array": b"[" * 100_000, "deep": b'{"a":' * 50_000,
        "deep but closed": raw(spec=b'{"a":'.decode() * 800 + "1" + "}" * 800),
        "long": b'{"injection": "' + b"x" * 300_000 + b'"}', "a list of lists": raw(spec="[[[[]]]]"),
        "spec of text": raw(spec='"x"'), "spec of null": raw(spec="null"), "unknown field": raw(surprise="1"),
        "no fault": b'{"injection": "i"}', "on_lost": raw(on_lost_controller='"never"'),
        "on_lost number": raw(on_lost_controller="1"), "injection of a list": raw(injection="[]"),
        "follow of text": raw(follow='"yes"'), "load of 2": raw(spec='{"load_fraction": 2}'),
        "load of NaN": raw(spec='{"load_fraction": NaN}'), "load of text": raw(spec='{"load_fraction": "1"}'),
        "10^9 workers": raw(spec='{"workers": 1000000000}'), "-1 workers": raw(spec='{"workers": -1}'),
        "10^30 workers": raw(spec='{"workers": 1' + "0" * 30 + "}"),
        "two specs": raw(spec='{"workers": 1, "workers": -1}'),
        "prototype": raw(spec='{"__class__": "Policy"}'), "policy": raw(policy='{"faults": ["*"]}'),
    }  # fmt: skip
    for name, body in bodies.items():
        _add(f"arguments: {name}", lambda _, body=body: ("fault.inject", body))
    for kind in (
        "",
        "fault",
        "fault.inject ",
        "FAULT.INJECT",
        "node.reboot",
        "policy.set",
        "exec",
        "_inject",
        "x" * 65,
        "\0",
    ):
        _add(f"order {kind!r}"[:40], lambda node, kind=kind: (kind, inject("process.pause", {"pid": node.target})[1]))
    for kind, body in {
        "probe.start": {}, "probe.stop": {"name": []}, "workload.run": {}, "fault.plan": {},
        "probe.recovery": {"name": "x", "injected_lo_ns": "now", "injected_hi_ns": 1},
        "probe.observe": {"name": "x", "measure": "p50_ms", "window_s": "inf"},
    }.items():  # fmt: skip
        _add(f"half of {kind}", lambda _, kind=kind, body=body: (kind, body))


def _commands() -> None:
    argvs: dict[str, Any] = {
        "shell": ["/bin/sh", "-c", "touch {made}"], "touch": ["touch", "{made}"], "more": ["/bin/true", "--help"],
        "by PATH": ["true"], "by ..": ["/bin/../bin/touch", "{made}"], "none": [], "empty": [""], "text": "/bin/true",
        "numbers": [1], "NUL": ["/bin/echo", "a\0b"], "by link": ["{link}"], "newline": ["/bin/true\n"],
    }  # fmt: skip

    def argv(node: Node, words: Any) -> Any:
        link = node.state.parent / "true"
        if not link.is_symlink():
            link.symlink_to("/bin/true")
        text = json.dumps(words).replace("{made}", str(made(node))).replace("{link}", str(link))
        return json.loads(text)

    for name, words in argvs.items():
        _add(
            f"command probe: {name}",
            lambda node, words=words: (
                "probe.start",
                {"name": "p", "kind": "command", "spec": {"argv": argv(node, words)}},
            ),
        )
        _add(
            f"command workload: {name}",
            lambda node, words=words: ("workload.run", {"kind": "command", "spec": {"argv": argv(node, words)}}),
        )
    for field, value in {"interval_ms": 0, "timeout_ms": 1e308, "stable_s": -1, "p99_max_ms": "x"}.items():
        probe = {"name": "p", "kind": "tcp", "spec": {"host": "127.0.0.1", "port": 9}, field: value}
        _add(f"probe with {field} of {value}", lambda _, probe=probe: ("probe.start", probe))
    for field, value in {"repeat": 10**9, "timeout_s": 1e9, "shell": True}.items():
        spec = {"argv": ["/bin/true"], field: value}
        _add(f"workload with {field}", lambda _, spec=spec: ("workload.run", {"kind": "command", "spec": spec}))


def made(node: Node) -> Path:
    """What a command that is not allowed would make."""
    return node.state.parent / "made"


for _section in (_kinds, _durations, _processes, _addresses, _malformed, _commands):
    _section()
