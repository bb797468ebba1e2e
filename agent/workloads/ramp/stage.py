"""The stages of a ramp: how many pods there are to be at the end of each. Pure."""

from __future__ import annotations

from agent.workloads.ramp.spec import RampSpec


def levels(spec: RampSpec) -> list[int]:
    """Numbers of pods, from `from` to `to`, both included, rising; at most `stages` steps between them."""
    low, high = spec.start, spec.to
    steps = 1 if spec.shape == "burst" or spec.mode == "hpa" else spec.stages  # an autoscaler has a shape of its own
    if spec.shape == "exponential":
        raw = [low * (high / low) ** (k / steps) for k in range(steps + 1)]
    else:
        raw = [low + (high - low) * k / steps for k in range(steps + 1)]
    unit = spec.gang or 1  # gangs are made whole
    found: list[int] = []
    for value in raw:
        level = high if value == raw[-1] else round(value / unit) * unit
        if not found or level > found[-1]:
            found.append(level)
    return found
