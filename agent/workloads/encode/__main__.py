"""`python -m agent.workloads.encode FOLDER PARENT_PID`: one encode workload.

Its input is the spec, one line of JSON. Writes lines of JSON: `{"say": …}`, at last `{"result": …}` or `{"error": …}`.
SIGTERM, which the kernel sends too when the agent dies, ends it at once with its workers.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from agent.system import libc
from agent.workloads.encode.run import run
from agent.workloads.encode.spec import parse
from agent.workloads.word import kind_of, write
from protos.error import BlackstartError


def main(argv: list[str]) -> int:
    folder, parent = Path(argv[0]), int(argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent
    libc.die_with_parent(parent, signal.SIGTERM)
    try:
        spec = parse(json.loads(sys.stdin.readline()))
        write({"result": asyncio.run(_interruptible(spec, folder))})
    except TimeoutError:
        write({"error": f"not through within timeout_s ({spec.timeout_s:g} s)", "kind": "probe"})
        return 1
    except (BlackstartError, OSError) as error:
        write({"error": str(error), "kind": kind_of(error)})
        return 1
    except asyncio.CancelledError:
        write({"error": "the encoding was ended before it was through", "kind": "probe"})
        return 1
    return 0


async def _interruptible(spec: Any, folder: Path) -> Any:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(spec, folder, lambda text: write({"say": text}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
