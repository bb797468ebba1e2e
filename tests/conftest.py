"""What all tests share: the network of the test process, and what a machine must have for a test to run.

As root, the test process moves into a network namespace of its own before anything starts a thread: it is then the
switch of the testbeds that tests make, and no test can reach or change the machine's own network. Under xdist each
worker gets its own. `BLACKSTART_NO_NETNS=1` turns this off, and the tests that need it are skipped.
"""

from __future__ import annotations

import protos.channel  # noqa: F401  isort: skip - before any test module imports grpc

import os
import shutil
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import hypothesis
import pytest

from blackstart.local import switch
from blackstart.local.namespace import Testbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def pytest_configure() -> None:
    # How long an example takes depends on what else the machine does, and is no property of the code.
    hypothesis.settings.register_profile(
        "blackstart", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("blackstart")
    # A shell's background job ignores SIGINT, and so would every process that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not _missing_for_testbed():
        # an xdist worker has a second thread, which reads the controller's pipe and no network
        switch.enter_switch(threads_max=2 if "PYTEST_XDIST_WORKER" in os.environ else 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seed = config.getoption("randomly_seed", None)
    if seed is not None and (terminalreporter.stats.get("failed") or terminalreporter.stats.get("error")):
        terminalreporter.write_line(f"repeat this order with: make test ARGS='--randomly-seed={seed}'")


def _missing_for_testbed() -> str:
    if os.environ.get("BLACKSTART_NO_NETNS") == "1":
        return "BLACKSTART_NO_NETNS=1 is set"
    return switch.available()


@pytest.fixture
def needs_root() -> None:
    """Skips the test unless this process may make namespaces: root, and what `available` names."""
    if missing := switch.available():
        pytest.skip(missing)


@pytest.fixture
def needs_nft(needs_root: None) -> None:
    """Skips the test unless nftables can be used here."""
    if shutil.which("nft") is None:
        pytest.skip("install nftables")


@pytest.fixture
def testbed_factory() -> Iterator[Callable[[Sequence[str]], Testbed]]:
    """Makes testbeds that end with the test; this process is their switch and reaches each host directly."""
    if missing := _missing_for_testbed():
        pytest.skip(missing)
    with ExitStack() as stack:
        yield lambda names: stack.enter_context(Testbed(names))
