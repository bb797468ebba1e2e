"""The node daemon: carries out orders, injects and ends faults, probes and records, and keeps no port open."""

__version__ = "0.1.0"
