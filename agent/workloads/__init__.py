"""Workloads: work that an agent runs and measures."""
