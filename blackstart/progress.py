"""One line of progress: written over itself at a terminal, told now and then where the output is kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

TELL_S: Final = 5.0  # between two lines, where the output is no terminal


@contextmanager
def progress(*, at_once: bool = False) -> Iterator[Callable[[str], None]]:
    """Gives what is to be called with each text; *at_once*: the first is told, too, where the output is kept."""
    terminal, told_s = sys.stdout.isatty(), [0.0 if at_once else time.monotonic()]

    def tell(text: str) -> None:
        if terminal:
            print(f"\r\033[K{text}", end="", flush=True)
        elif time.monotonic() - told_s[0] >= TELL_S:
            told_s[0] = time.monotonic()
            print(text, flush=True)

    try:
        yield tell
    finally:
        if terminal:
            print("\r\033[K", end="", flush=True)
