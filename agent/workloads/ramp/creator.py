"""Processes that make requests for pods, many at once: one Python process alone would bound the rate.

Invariant: a creator dies with the process that forked it. Open loop: with a rate, request *k* is due at its own time,
and the wait for that is counted, since it is what tells a client's own limit from a slow server.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from array import array
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

import urllib3

from agent.system import libc
from agent.workloads.ramp.api import Api

_RETRY_S: Final = 0.05
_RETRY_MOST_S: Final = 5.0
_CONTEXT: Final = multiprocessing.get_context("fork")
DELETE_NOW: Final = "?gracePeriodSeconds=0"


class Task(NamedTuple):
    """Requests for the pods low..high-1, of which this creator takes every *step*-th. *rate*: of all creators, 1/s."""

    method: str
    low: int
    high: int
    first: int
    step: int
    rate: float
    begin_ns: int
    end_ns: int
    query: str = ""

    def due_s(self, at: int) -> float:
        """Of this creator's request *at*, from the beginning."""
        return (self.first + at * self.step) / self.rate if self.rate else 0.0


class Template(NamedTuple):
    """Of a pod, around its name. *path*: of the namespace's pods."""

    path: str
    prefix: str
    before: bytes
    after: bytes

    def name(self, number: int) -> str:
        return f"{self.prefix}{number:06d}"

    def request(self, task: Task, number: int) -> tuple[str, bytes | None]:
        name = self.name(number)
        if task.method == "POST":
            return self.path, self.before + name.encode() + self.after
        return f"{self.path}/{name}{task.query}", None


class Answer(NamedTuple):
    """Of one creator. *asked*, *acked*: ns, by pod taken, 0 for one that failed; *latency*: ns of every call."""

    task: Task
    asked: array[int]
    acked: array[int]
    latency: array[int]
    paced_s: float  # summed over requests: until each was due
    held_s: float  # summed over threads, because the server asked to come again
    refused: int  # answers 429
    failed: int
    error: str
    threads: int
    cpu_s: float


class Creators:
    """The processes, forked before any thread is started."""

    def __init__(self, count: int, threads: int, template: Template) -> None:
        self._threads, self._ends, self._children = threads, list[Connection](), list[Any]()
        parent = os.getpid()
        for _ in range(count):
            ours, theirs = _CONTEXT.Pipe()
            child = _CONTEXT.Process(target=_serve, args=(parent, theirs, template, threads), daemon=True)
            child.start()
            theirs.close()
            self._ends.append(ours)
            self._children.append(child)
        for ours in self._ends:
            ours.recv()  # it is ready

    def begin(self, method: str, low: int, high: int, rate: float, end_ns: int, query: str = "") -> int:
        """Starts the requests for pods low..high-1; the instant from which they are due."""
        begin_ns, step = time.monotonic_ns(), len(self._ends)
        for first, end in enumerate(self._ends):
            end.send(Task(method, low, high, first, step, rate, begin_ns, end_ns, query))
        return begin_ns

    def answers(self) -> Iterator[Answer]:
        """One of each creator, once all its requests are answered."""
        for end in self._ends:
            yield Answer(*end.recv())

    def done(self) -> bool:
        return all(end.poll() for end in self._ends)

    def close(self) -> None:
        """At once, in the middle of requests too."""
        for child in self._children:
            child.kill()
            child.join()


def _serve(parent: int, end: Connection, template: Template, threads: int) -> None:
    libc.die_with_parent(parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the parent ends us
    api = Api(threads)
    end.send(None)
    with contextlib.suppress(EOFError):
        while True:
            end.send(tuple(_carry_out(api, template, end.recv(), threads)))


class _Work:
    """What the threads of one task share; each appends by calls that are one step of the interpreter."""

    def __init__(self, task: Task) -> None:
        self.task, self.size = task, len(range(task.low + task.first, task.high, task.step))
        self.numbers = iter(range(self.size))
        self.asked, self.acked = array("q", bytes(8 * self.size)), array("q", bytes(8 * self.size))
        self.latency: array[int] = array("q")
        self.held, self.errors = list[float](), list[str]()
        self.refused = list[int]()

    def paced_s(self) -> float:
        return sum(self.task.due_s(at) for at in range(self.size))


def _carry_out(api: Api, template: Template, task: Task, threads: int) -> Answer:
    work, before = _Work(task), time.process_time()
    running = [threading.Thread(target=_run, args=(api, template, work)) for _ in range(min(threads, work.size))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    error = work.errors[0] if work.errors else ""
    return Answer(
        task, work.asked, work.acked, work.latency, work.paced_s(), sum(work.held), len(work.refused),
        len(work.errors), error, threads, time.process_time() - before,
    )  # fmt: skip


def _run(api: Api, template: Template, work: _Work) -> None:
    task = work.task
    for at in work.numbers:
        number = task.low + task.first + at * task.step
        if task.rate:
            due_ns = task.begin_ns + int(task.due_s(at) * 1e9)
            if (wait_s := (min(due_ns, task.end_ns) - time.monotonic_ns()) / 1e9) > 0:
                time.sleep(wait_s)
        path, body = template.request(task, number)
        work.asked[at] = time.monotonic_ns()
        if error := _insist(api, work, path, body):
            work.errors.append(error)
        else:
            work.acked[at] = time.monotonic_ns()


def _insist(api: Api, work: _Work, path: str, body: bytes | None) -> str:
    """Sends until it is done, as long as the server is merely busy; else why it cannot be done."""
    wanted = (200, 201, 202, 409) if work.task.method == "POST" else (200, 202, 404)  # 409, 404: by a try before
    told = "the time was over"
    while (begun_ns := time.monotonic_ns()) < work.task.end_ns:
        wait_s = _RETRY_S
        try:
            answer = api.send(work.task.method, path, body)
        except urllib3.exceptions.HTTPError as error:
            told = str(error)
        else:
            work.latency.append(time.monotonic_ns() - begun_ns)
            if answer.status in wanted:
                return ""
            told = f"{answer.status} {answer.data[:300].decode('utf-8', 'replace')}"
            if answer.status == 429:
                work.refused.append(1)
                wait_s = _retry_after_s(answer.headers.get("Retry-After"))
            elif answer.status < 500:
                return told
        time.sleep(wait_s)
        work.held.append(wait_s)
    return f"not done in time: {told}"


def _retry_after_s(text: str | None) -> float:
    return min(float(text), _RETRY_MOST_S) if text and text.isdigit() else _RETRY_S
