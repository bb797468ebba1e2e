"""The Chaos Toolkit extension: what experiment files name as `module: blackstart.chaos`.

Invariant: the functions here are the ones of docs/architecture.md ("Driver functions"), and nothing else is exported.
"""

from blackstart.chaos.driver import inject, observe, recovery, revert, run_workload, start_probe, steady

__all__ = ["discover", "inject", "observe", "recovery", "revert", "run_workload", "start_probe", "steady"]

PROBES = frozenset({"observe", "steady", "recovery"})


def discover(discover_system: bool = True) -> dict[str, object]:
    """What `chaos discover --no-install blackstart.chaos` lists."""
    from importlib.metadata import version

    from chaoslib.discovery import discover as discovery

    del discover_system  # what the fleet can do is `blackstart faults list`'s to say
    found = discovery.initialize_discovery_result("blackstart", version("blackstart"), "blackstart")
    for activity in discovery.discover_actions("blackstart.chaos"):
        if activity["name"] != "discover":
            found["activities"].append(activity | {"type": "probe" if activity["name"] in PROBES else "action"})
    return dict(found)
