"""Sensors: what the agent reads off its own node, by series."""
