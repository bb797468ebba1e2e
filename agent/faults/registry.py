"""Every fault this agent knows, by kind. A new fault is a new file and one line here.

Modules are imported when their kind is first used: the guardian, and the agent's start, need only what is in force.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from agent.faults.base import Effect, Fault
from protos.error import Problem, SpecError

KINDS: Final[dict[str, str]] = {  # kind -> module:class
    "container.kill": "container_kill:ContainerKill",
    "container.network_disconnect": "container_network_disconnect:ContainerNetworkDisconnect",
    "container.pause": "container_pause:ContainerPause",
    "container.restart": "container_restart:ContainerRestart",
    "container.stop": "container_stop:ContainerStop",
    "deployment.scale": "deployment_scale:DeploymentScale",
    "dns.coredns_kill": "dns_coredns_kill:DnsCorednsKill",
    "file.io_error": "file_io_error:FileIoError",
    "file.io_slow": "file_io_slow:FileIoSlow",
    "gpu.clock_lock": "gpu_clock_lock:GpuClockLock",
    "gpu.encode_sessions": "gpu_encode_sessions:GpuEncodeSessions",
    "gpu.memory_hog": "gpu_memory_hog:GpuMemoryHog",
    "gpu.power_cap": "gpu_power_cap:GpuPowerCap",
    "gpu.process_kill": "gpu_process_kill:GpuProcessKill",
    "gpu.xid_log": "gpu_xid_log:GpuXidLog",
    "lease.steal": "lease_steal:LeaseSteal",
    "network.bandwidth": "network_bandwidth:NetworkBandwidth",
    "network.corrupt": "network_corrupt:NetworkCorrupt",
    "network.delay": "network_delay:NetworkDelay",
    "network.dns": "network_dns:NetworkDns",
    "network.duplicate": "network_duplicate:NetworkDuplicate",
    "network.loss": "network_loss:NetworkLoss",
    "network.partition": "network_partition:NetworkPartition",
    "network.port_block": "network_port_block:NetworkPortBlock",
    "network.reorder": "network_reorder:NetworkReorder",
    "network.reset": "network_reset:NetworkReset",
    "node.cordon": "node_cordon:NodeCordon",
    "node.drain": "node_drain:NodeDrain",
    "node.partition": "node_partition:NodePartition",
    "node.stop_kubelet": "node_stop_kubelet:NodeStopKubelet",
    "node.taint": "node_taint:NodeTaint",
    "pdb.block": "pdb_block:PdbBlock",
    "pod.container_kill": "pod_container_kill:PodContainerKill",
    "pod.kill": "pod_kill:PodKill",
    "pod.partition": "pod_partition:PodPartition",
    "process.kill": "process_kill:ProcessKill",
    "process.pause": "process_pause:ProcessPause",
    "process.restart_loop": "process_restart_loop:ProcessRestartLoop",
    "quota.exhaust": "quota_exhaust:QuotaExhaust",
    "resource.cpu": "resource_cpu:ResourceCpu",
    "resource.disk_fill": "resource_disk_fill:ResourceDiskFill",
    "resource.fd_exhaust": "resource_fd_exhaust:ResourceFdExhaust",
    "resource.inode_fill": "resource_inode_fill:ResourceInodeFill",
    "resource.io_pressure": "resource_io_pressure:ResourceIoPressure",
    "resource.io_throttle": "resource_io_throttle:ResourceIoThrottle",
    "resource.memory": "resource_memory:ResourceMemory",
    "resource.pid_exhaust": "resource_pid_exhaust:ResourcePidExhaust",
    "rollout.bad_image": "rollout_bad_image:RolloutBadImage",
    "time.clock_skew": "time_clock_skew:TimeClockSkew",
}


class Faults(Mapping[str, Fault[Any]]):
    """One instance a kind, made when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Fault[Any]] = {}

    def __getitem__(self, kind: str) -> Fault[Any]:
        if kind not in self._made:
            module, _, name = KINDS[kind].partition(":")
            self._made[kind] = getattr(importlib.import_module(f"agent.faults.{module}"), name)()
        return self._made[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(KINDS))

    def __len__(self) -> int:
        return len(KINDS)


def all_faults() -> Faults:
    """Fresh instances, by kind."""
    return Faults()


async def warm(faults: Mapping[str, Fault[Any]], kind: str) -> None:
    """Starts what a plan of this kind would have to wait for, where there is such a thing."""
    if kind in faults and not faults[kind].missing() and (start := getattr(faults[kind], "warm", None)):
        await start()


def plan(faults: Mapping[str, Fault[Any]], kind: str, spec: dict[str, Any]) -> list[Effect]:
    """The effects of *spec*, at least one. SpecError for an unknown kind, a wrong spec, or one without targets."""
    if kind not in faults:
        raise SpecError(Problem("fault", f"unknown fault {kind!r}", f"known: {', '.join(sorted(faults))}"))
    fault = faults[kind]
    if lacks := fault.missing():
        raise SpecError(Problem("fault", f"{kind} cannot run on this node: it lacks {lacks}"))
    try:
        typed = msgspec.convert(spec, fault.spec)
    except msgspec.ValidationError as error:
        raise SpecError(Problem(f"spec of {kind}", str(error))) from error
    effects: list[Effect] = fault.plan(typed)
    if not effects:
        raise SpecError(Problem(f"spec of {kind}", "names no target"))
    return effects
