"""The target of `node.partition`: a node that has a kubelet here, and another one in its cluster."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.system import proc
from blackstart.local import switch
from blackstart.local.cluster.plane import PODS
from tests.chaos import kube_eye
from tests.chaos.case import Case, end, subject, wait_until
from tests.chaos.subject import network
from tests.chaos.subject.pod import program_name


def missing() -> str:
    told = kube_eye.missing() or network.missing()
    return told or ("" if switch.entered() else "needs a network of the test's own")


def _rules() -> str:
    """In this process's own network, which is the agent's here."""
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@subject("node.partition", missing=missing, home="cluster")
def partition() -> Iterator[Case]:
    with kube_eye.eye() as one, kube_eye.node(one) as host, kube_eye.node(one), tempfile.TemporaryDirectory() as folder:
        name = program_name()
        program = Path(folder) / name  # a script has its own name, and takes any words
        program.write_text("#!/bin/sh\nwhile read -r line; do :; done\n", encoding="utf-8")
        program.chmod(0o755)
        process = subprocess.Popen([str(program), f"--hostname-override={host}"], stdin=subprocess.PIPE)
        wait_until(lambda: (proc.stat(process.pid) or (None,))[0] == name, 5.0)
        switch.configure(f"route replace {PODS} dev lo")  # so that there is a way to the other node's pods
        try:
            yield Case(
                "node.partition", {"program": name}, lambda: {"rules": _rules()},
                in_force=lambda: "blackstart" in _rules(), vanish=lambda: (process.kill(), process.wait(), None)[-1],
            )  # fmt: skip
        finally:
            switch.configure(f"route delete {PODS} dev lo")
            process.stdin.close()
            end(process)
