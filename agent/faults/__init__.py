"""The faults, one file each, under the one contract of `agent.faults.base`."""
