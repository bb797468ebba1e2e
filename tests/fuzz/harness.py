"""One fuzz target under coverage guidance: `python -m tests.fuzz.harness NAME CORPUS [libFuzzer options]`.

A target is a function of bytes that raises when an invariant does not hold. `BLACKSTART_FUZZ_MUTANT=NAME` plants a bug
first, which the fuzzer must find. Source: atheris, libFuzzer's documentation of its options.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

INSTRUMENTED = ["agent", "blackstart", "controller", "protos"]


def main() -> None:
    import atheris

    name, corpus = sys.argv[1:3]
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import mutant, target
    chosen = target.TARGETS[name]
    mutant.isolate()
    if planted := os.environ.get("BLACKSTART_FUZZ_MUTANT"):
        mutant.MUTANTS[planted]()
    for number, seed in enumerate(chosen.seeds):
        Path(corpus, f"seed-{number:03}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[3:], corpus], chosen.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
