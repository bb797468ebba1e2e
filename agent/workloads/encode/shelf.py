"""Which outputs are kept until they are looked at: a sample, so that hours of encoding do not fill the disk.

Invariant: of each input the first output stays, for its quality; of all others any is as likely to stay as another.
"""

from __future__ import annotations

import random
import shutil
from typing import Final, NamedTuple

from agent.workloads.encode.ladder import Made
from agent.workloads.encode.source import Source

_FIRSTS_MAX: Final = 200  # inputs whose quality is measured


class Output(NamedTuple):
    """What a job left in *place*."""

    place: str
    source: Source
    made: Made


class Shelf:
    """*most*: outputs beside the first of each input (*firsts*). *keep_all*: then the disk is the only bound."""

    def __init__(self, most: int, *, firsts: bool, keep_all: bool) -> None:
        self._most, self._keep_all, self._firsts_max = most, keep_all, _FIRSTS_MAX if firsts else 0
        self.firsts: dict[str, Output] = {}  # by the input's path
        self.others: list[Output] = []
        self.count = 0  # put here so far
        self._chance = random.Random("outputs")  # noqa: S311 - a sample

    def clear(self) -> None:
        """Removes all; the next output counts as the first."""
        for one in (*self.firsts.values(), *self.others):
            _remove(one)
        self.firsts.clear()
        self.others.clear()
        self.count = 0

    def put(self, one: Output) -> None:
        """Keeps it, or removes it or another."""
        self.count += 1
        if one.source.path not in self.firsts and len(self.firsts) < self._firsts_max:
            self.firsts[one.source.path] = one
        elif self._keep_all or len(self.others) < self._most:
            self.others.append(one)
        else:
            at = self._chance.randrange(self.count - len(self.firsts))
            if at < self._most:
                one, self.others[at] = self.others[at], one
            _remove(one)

    def sample(self) -> list[Output]:
        """At most *most* of them, spread over all, the first of each input among them."""
        kept = [*self.firsts.values(), *self.others]
        if len(kept) <= self._most:
            return kept
        if (left := self._most - len(self.firsts)) <= 0:
            return kept[: self._most]
        return [*self.firsts.values(), *(self.others[at * len(self.others) // left] for at in range(left))]


def _remove(one: Output) -> None:
    shutil.rmtree(one.place, ignore_errors=True)
