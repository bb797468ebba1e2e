"""The floor under every failover of PostgreSQL: a bare `pg_ctl promote` of a standby, until it takes a write.

No detection, no decision, no proxy: what a measured failover takes beyond this is theirs. Run by `make bench`.
"""

from __future__ import annotations

import os
import pwd
import signal
import statistics
import subprocess
import time

import pytest

from tests.contract import postgres_rig
from tests.contract.postgres_rig import BINARIES, Postgres

TRIALS = 7


def standby_of(primary: Postgres, retry: str) -> Postgres:
    """A standby that streams from *primary*, caught up."""
    made = Postgres()
    data = made.folder / "data"
    owner = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    subprocess.run(["rm", "-rf", str(data)], check=True)
    command = [*owner, str(BINARIES[-1] / "pg_basebackup"), "-d", primary.dsn, "-D", str(data), "-R", "-c", "fast"]
    subprocess.run(command, check=True, capture_output=True, cwd="/")
    made.start(wal_retrieve_retry_interval=retry)
    return made


def promoted_s(number: int, retry: str) -> float:
    """Wall time from the order to the first write. *retry*: how long a standby waits before it looks for WAL again."""
    primary = Postgres()
    primary.start()
    primary.sql("CREATE TABLE t (k int)")
    standby = standby_of(primary, retry)
    try:
        primary.signal(signal.SIGKILL)
        account = pwd.getpwnam("postgres")
        begun = time.monotonic()
        done = subprocess.run(
            [str(BINARIES[-1] / "pg_ctl"), "promote", "-D", str(standby.folder / "data"), "-w"],
            check=True, capture_output=True, user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/",
        )  # fmt: skip
        assert done.returncode == 0
        while not standby.sql(f"INSERT INTO t VALUES ({number}) RETURNING k"):
            time.sleep(0.001)
        return time.monotonic() - begun
    finally:
        standby.remove()
        primary.remove()


@pytest.mark.benchmark
@pytest.mark.timeout(300)
def test_bare_promotion() -> None:
    if lacks := postgres_rig.missing():
        pytest.skip(lacks)
    print()
    for retry in ("5s", "100ms"):  # the first is PostgreSQL's default
        before = os.times()
        took = sorted(promoted_s(number, retry) for number in range(TRIALS))
        after = os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        spread = f"min {took[0]:.3f} s, median {statistics.median(took):.3f} s, max {took[-1]:.3f} s"
        print(f"pg_ctl promote until a write, wal_retrieve_retry_interval {retry}, {TRIALS} trials: {spread}; "
              f"all servers and tools: CPU {cpu_s:.1f} s")  # fmt: skip
        assert took
