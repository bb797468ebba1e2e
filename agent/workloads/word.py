"""How a workload's own process speaks to the agent: lines of JSON on its output."""

from __future__ import annotations

import json
import os
from typing import Any

from protos.error import RefusedError, SpecError


def write(document: Any) -> None:
    """One line, whole. An agent that is gone reads nothing: what is under way goes on without it."""
    data = json.dumps(document).encode() + b"\n"
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        pass


def kind_of(error: Exception) -> str:
    """Which error the agent is to raise for it."""
    return "spec" if isinstance(error, SpecError) else "refused" if isinstance(error, RefusedError) else "probe"
