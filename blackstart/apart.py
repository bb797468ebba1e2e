"""gRPC in threads of its own, so that Ctrl-C cannot break it.

gRPC takes its locks in Python. A signal's exception is raised in the main thread, also between taking a lock and
releasing it; the next call on that channel, such as the abort that Ctrl-C asks for, then waits for ever (seen in one
of sixty interrupted watches). Here the main thread waits on a queue only, whose `get` holds nothing when interrupted.
"""

from __future__ import annotations

import _thread
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Stream(Protocol[T_co]):
    """A response stream of gRPC."""

    def __iter__(self) -> Iterator[T_co]: ...
    def cancel(self) -> bool: ...


def apart(function: Callable[[], T]) -> T:
    """What *function* returns or raises; if the caller is interrupted meanwhile, it runs to its end unheard."""
    answers: SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            answers.put((None, error))

    _thread.start_new_thread(work, ())
    value, error = answers.get()
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # one of the two is None


def stream_apart(start: Callable[[], Stream[T]]) -> Iterator[T]:
    """The items of the stream that *start* begins; it is cancelled when the iteration is left, however it is left."""
    answers: SimpleQueue[tuple[list[T], BaseException | None]] = SimpleQueue()
    made: list[Stream[T]] = []
    left: list[bool] = []

    def work() -> None:
        try:
            stream = start()
            made.append(stream)
            if left:
                stream.cancel()
            for item in stream:
                answers.put(([item], None))
            answers.put(([], None))
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            answers.put(([], error))

    _thread.start_new_thread(work, ())
    try:
        while True:
            items, error = answers.get()
            if error is not None:
                raise error
            if not items:
                return
            yield items[0]
    finally:
        left.append(True)
        if made:
            _thread.start_new_thread(made[0].cancel, ())
