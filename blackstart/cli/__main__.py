"""Entry point of `blackstart`: every error ends here, as one line and an exit code.

Invariant: exit codes are `protos.error.Exit`; a traceback is shown only when BLACKSTART_DEBUG is set.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from protos.error import BlackstartError, Exit


def main() -> NoReturn:
    """Runs the command that the arguments name, and exits."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Exit code of the command that *arguments* name."""
    from blackstart.cli.app import app

    try:
        code = app(arguments, prog_name="blackstart", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else Exit.HELD
    except KeyboardInterrupt:
        return _fail("interrupted", Exit.INCONCLUSIVE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: the flush at exit fails too
        return Exit.HELD
    except Exception as error:  # noqa: BLE001 - the last edge: translated, never swallowed
        return _translated(error)


def _translated(error: Exception) -> int:
    if os.environ.get("BLACKSTART_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BlackstartError):
        return _fail(str(error), error.exit)
    if callable(show := getattr(error, "show", None)):  # a usage error of the command line itself
        show()
        return Exit.BAD_INPUT
    if type(error).__name__ == "Abort":  # a question that was not answered
        return _fail("interrupted", Exit.INCONCLUSIVE)
    if isinstance(error, OSError):
        return _fail(f"{error.filename or 'input/output'}: {error.strerror or error}", Exit.BAD_INPUT)
    what = f"{type(error).__name__}: {error}. This is a defect: report it with the output under BLACKSTART_DEBUG=1"
    return _fail(what, Exit.INCONCLUSIVE)


def _fail(message: str, code: Exit) -> int:
    first, *rest = message.splitlines() or [""]
    print("\n".join([f"error: {first}", *(f"       {line}" for line in rest)]), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
