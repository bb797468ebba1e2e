"""Test services with their agents, watched as `blackstart services up` watches them, and experiments run on them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blackstart.local import service_file, service_run, services

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "experiments" / "profiles" / "dailydoco.yaml"


@contextlib.contextmanager
def services_up(name: str, tmp_path: Path, testbed_factory: Any) -> Iterator[services.ServiceBed]:
    described = service_file.load(ROOT / "deploy" / "services" / f"{name}.yaml")
    if lacks := ", ".join(described.missing()):
        pytest.skip(f"install {lacks}")
    testbed_factory([]).close()  # skips where there are no hosts
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # databases do not run as root
    over = threading.Event()
    with services.ServiceBed(described, tmp_path / "state") as made:

        def watch() -> None:
            while not over.wait(0.2):
                made.watch(time.monotonic())

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield made
        finally:
            over.set()
            watching.join()


def run(bed: services.ServiceBed, name: str, *options: str) -> tuple[int, Any]:
    """Exit code and JSON of `blackstart run` on a scenario of reliability."""
    file = ROOT / "experiments" / "reliability" / f"{name}.yaml"
    command = [str(Path(sys.executable).with_name("blackstart")), "run", str(file), "--profile", str(PROFILE), "--json"]
    environment = {**os.environ, **service_run.environment(bed.state)}
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False, timeout=150
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
