"""State directories that are ours to empty, and only those."""

from __future__ import annotations

import shutil
from pathlib import Path

from protos.error import RefusedError


def emptied(state: Path, mark: str, mode: int) -> None:
    """An empty *state*: what an earlier start kept is of another cluster. *mark* is the file by which it is ours.

    Raises:
        RefusedError: it holds something and not the mark, or cannot be made.
    """
    if state.exists() and not (state / mark).exists() and any(state.iterdir()):
        raise RefusedError(f"{state} is not empty, and not ours to empty: name another by --state")
    shutil.rmtree(state, ignore_errors=True)
    try:
        state.mkdir(parents=True, mode=mode)
        (state / mark).touch()
    except OSError as error:
        raise RefusedError(f"state directory {state}: {error.strerror}: name another by --state") from error
