"""`python -m agent.workloads.ramp run|sweep RAMP RUN PARENT_PID`: one ramp, or the removal of what one left.

Its input is the spec, one line of JSON. Writes lines of JSON: `{"say": …}`, at last `{"result": …}` or `{"error": …}`.
SIGTERM, which the kernel sends too when the agent dies, ends a ramp at once; what it made is removed all the same. A
removal hears no signal: it ends by its own time.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any, NoReturn

from agent.system import libc
from agent.workloads.ramp.spec import parse
from agent.workloads.word import kind_of, write
from protos.error import BlackstartError


class _StopError(BaseException):
    """Told to end; no handler of ordinary errors may catch it."""


def _stop(number: int, frame: Any) -> NoReturn:
    del frame
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)  # the removal is not to be interrupted
    raise _StopError(number)


def main(argv: list[str]) -> int:
    what, ramp, run, parent = argv[0], argv[1], argv[2], int(argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent
    signal.signal(signal.SIGTERM, signal.SIG_IGN if what == "sweep" else _stop)
    libc.die_with_parent(parent, signal.SIGTERM)
    made: Any = None
    try:
        spec = parse(json.loads(sys.stdin.readline()))
        from agent.workloads.ramp.api import Api
        from agent.workloads.ramp.run import Ramp
        from agent.workloads.ramp.sweep import sweep

        if what == "sweep":
            write({"result": sweep(Api(), spec.namespace, ramp, spec.removal_s, forced=spec.played)})
        else:
            made = Ramp(spec, ramp, run, lambda text: write({"say": text}))
            write({"result": made.run()})
    except BlackstartError as error:
        write({"error": str(error), "kind": kind_of(error), "removal": made and made.removal})
        return 1
    except _StopError:
        write({"error": "the ramp was ended before it was through", "kind": "probe", "removal": made and made.removal})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
