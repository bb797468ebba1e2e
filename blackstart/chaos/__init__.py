"""The Chaos Toolkit extension: what experiment files name as `module: blackstart.chaos`.

Invariant: the functions here are the ones of docs/architecture.md ("Driver functions"), and nothing else is exported.
"""

from blackstart.chaos.driver import data_loss, inject, observe, recovery, revert, run_workload, start_probe, steady

__all__ = ["data_loss", "inject", "observe", "recovery", "revert", "run_workload", "start_probe", "steady"]
