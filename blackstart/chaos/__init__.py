"""The Chaos Toolkit extension: what experiment files name as `module: blackstart.chaos`.

Invariant: the functions here are the ones of docs/architecture.md ("Driver functions"), and nothing else is exported.
"""

from blackstart.chaos.driver import (
    capacity,
    cascade,
    data_loss,
    inject,
    observe,
    phases,
    recovery,
    revert,
    run_workload,
    start_probe,
    steady,
    uptime,
)  # fmt: skip

__all__ = [
    "capacity", "cascade", "data_loss", "inject", "observe", "phases", "recovery", "revert", "run_workload",
    "start_probe", "steady", "uptime",
]  # fmt: skip
