"""Carries out what a decision function says of each queued packet: now, at an instant, never, changed, or twice.

    def decide(packet: Packet, now_ns: int) -> int | Fate: ...

`ACCEPT` (0) lets the packet go now, `DROP` (-1) never, any other number at that CLOCK_MONOTONIC instant in ns; a `Fate`
says more (other content, a packet to send beside it). The *packet* is one object, filled anew for each call: copy what
is to be kept. `decide` runs on the engine's thread and must be quick: some microseconds.

    stream = Stream(decide)                            # a queue without copies: packet.length is 0
    stream = Stream(decide, copy_bytes=64)             # the first bytes of each, and packet.length
    stream = Stream(decide, copy_bytes=WHOLE, segment=True)   # whole packets as on the wire, checksums filled in
    stream = Stream(decide, …, sender=Sender(mark))    # for a decide that says what to send
    engine = Engine([stream])
    queue_table.commit(channel, Selection(table=..., numbers={"in": stream.number}, mark=mark, ...))
    engine.start()                                     # a thread; the process ends if it fails
    ...
    engine.finish()                                    # what is held goes at once, and what comes passes
    channel.close()                                    # only now: the kernel drops what is held when a chain goes

Invariant: packets with the same instant keep their order, and what is due is never later than the next wake-up.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import struct
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agent.system.queue_sender import Sender
from agent.system.queue_socket import PACKET_ID, PACKETS_MAX, QueueSocket

ACCEPT: Final = 0
DROP: Final = -1
WHOLE: Final = 0xFFFF  # copy_bytes for whole packets

_LOOK_S: Final = 1.0
_PART: Final = 256  # packets that are read before due ones are looked for again
_HELD_MAX: Final = 40_000  # more packets of our own do not wait, they are lost
_OWN: Final = 1 << 40
_FOR_EVER_NS: Final = 1 << 62
_FINISH_S: Final = 0.1


class Fate(NamedTuple):
    """What becomes of a packet, where a number does not say enough."""

    at_ns: int = ACCEPT  # or DROP, or the instant
    payload: bytes | None = None  # the packet's new content, from its IP header on; checksums are the caller's
    send: bytes = b""  # a whole IP packet that is sent with the engine's mark
    send_at_ns: int = 0  # when; 0: now


class Packet:
    """The packet at hand. Its bytes are `buffer[start:end]`, from the IP header on, where they were asked for."""

    __slots__ = ("buffer", "end", "length", "start")

    def __init__(self, buffer: bytearray) -> None:
        self.buffer, self.start, self.end = buffer, 0, 0
        self.length = 0  # of the whole packet, IP header included; 0 where no bytes were asked for

    @property
    def content(self) -> bytes:
        return bytes(memoryview(self.buffer)[self.start : self.end])


Decide = Callable[[Packet, int], "int | Fate"]


class Stream:
    """One queue, what decides over it, and what it holds."""

    def __init__(
        self,
        decide: Decide,
        *,
        copy_bytes: int = 0,
        segment: bool = False,
        packets_max: int = PACKETS_MAX,
        sender: Sender | None = None,
    ) -> None:
        self.queue = QueueSocket(copy_bytes=copy_bytes, segment=segment, packets_max=packets_max)
        self.number = self.queue.number
        self.decide = decide
        self._send = sender.send if sender is not None else _nowhere
        self._held: list[tuple[int, int, Fate | None]] = []  # a heap: instant, id, what else
        self._straight = True  # what is held is due in the order of its ids
        self._latest_ns = 0
        self._sends = _OWN  # ids of packets of our own, in their order

    def due_ns(self) -> int:
        """When the next of what is held is due; 0 for nothing."""
        return self._held[0][0] if self._held else 0

    def drain(self) -> None:
        """Reads what has come, at most a part, and decides over it."""
        queue, decide, packet = self.queue, self.decide, Packet(self.queue.buffer)
        packet_id_of, buffer, clock = _PACKET_ID.unpack_from, queue.buffer, time.monotonic_ns
        with contextlib.suppress(BlockingIOError):
            for _ in range(_PART):
                if not (length := queue.receive()):
                    continue
                (packet_id,) = packet_id_of(buffer, PACKET_ID)
                if queue.copying:
                    packet.start, packet.end, packet.length = queue.payload(length)
                fate = decide(packet, clock())
                if isinstance(fate, int):
                    self._hold(fate, packet_id) if fate > 0 else self._settle(fate, packet_id)
                else:
                    self._consider(fate, packet_id)
        queue.flush()

    def _settle(self, verdict: int, packet_id: int) -> None:
        if verdict == ACCEPT:
            self.queue.accept(packet_id)
        else:
            self.queue.drop(packet_id)

    def _hold(self, at_ns: int, packet_id: int, fate: Fate | None = None) -> None:
        if at_ns < self._latest_ns or fate is not None:
            self._straight = False
        self._latest_ns = max(self._latest_ns, at_ns)
        heapq.heappush(self._held, (at_ns, packet_id, fate))

    def _consider(self, fate: Fate, packet_id: int) -> None:
        if fate.send:
            if not fate.send_at_ns:
                self._send(fate.send)
            elif len(self._held) < _HELD_MAX:
                self._sends += 1
                self._hold(fate.send_at_ns, self._sends, fate)
        if fate.at_ns > 0:
            self._hold(fate.at_ns, packet_id, fate if fate.payload is not None else None)
        elif fate.at_ns == ACCEPT and fate.payload is not None:
            self.queue.accept_altered(packet_id, fate.payload)
        else:
            self._settle(fate.at_ns, packet_id)

    def release(self, now_ns: int) -> None:
        """Lets go of what is due."""
        held, pop, last_id = self._held, heapq.heappop, 0
        while held and held[0][0] <= now_ns:
            _, packet_id, fate = pop(held)
            if self._straight:
                last_id = packet_id
            elif fate is None:
                self.queue.accept(packet_id)
            elif packet_id > _OWN:
                self._send(fate.send)
            elif fate.payload is not None:
                self.queue.accept_altered(packet_id, fate.payload)
        if last_id:
            self.queue.accept_all(last_id)
        if not held:
            self._straight, self._latest_ns = True, 0
        self.queue.flush()

    def open(self) -> None:
        """Lets go of all that is held, and lets pass what comes from now on."""
        self.drain()
        self.release(_FOR_EVER_NS)
        self.decide = lambda _, __: ACCEPT


def _nowhere(content: bytes) -> None:
    raise ValueError(f"a stream without a sender was told to send {len(content)} bytes")


class Engine:
    """Waits for packets and for instants, on a thread of its own.

    Make it, and its streams, on the thread that has entered the network namespace: new threads inherit it.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = list(streams)
        self._ending, self._end = os.pipe2(os.O_CLOEXEC)
        self._open = threading.Event()

    def start(self) -> None:
        with contextlib.suppress(OSError):  # sleeps end on time, not up to 50 us later; threads inherit it
            Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")
        threading.Thread(target=self._run, name="queue", daemon=True).start()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:  # noqa: BLE001 # a queue that nobody serves would hold packets for ever
            traceback.print_exc()
            os._exit(1)

    def _serve(self) -> None:
        streams = {stream.queue.channel.fileno(): stream for stream in self._streams}
        descriptors, every = [*streams, self._ending], self._streams
        while True:
            timeout_s = _LOOK_S
            if dues := [due for stream in every if (due := stream.due_ns())]:
                timeout_s = min(_LOOK_S, max(0.0, (min(dues) - time.monotonic_ns()) / 1e9))
            ready = select.select(descriptors, (), (), timeout_s)[0]
            if self._ending in ready:
                for stream in every:
                    stream.open()
                self._open.set()
                descriptors.remove(self._ending)
                continue
            for descriptor in ready:
                streams[descriptor].drain()
            now_ns = time.monotonic_ns()
            for stream in every:
                stream.release(now_ns)

    def finish(self) -> None:
        """Lets go of all that is held, and lets pass what comes from now on; call it from another thread."""
        os.write(self._end, b"!")
        self._open.wait(_FINISH_S)


_PACKET_ID: Final = struct.Struct("!I")
