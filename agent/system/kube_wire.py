"""What is asked of a Kubernetes API server and what comes back: the same in the agent and in its helper processes.

Invariant: whatever goes wrong is an OSError whose text says who must act; its `status` is HTTP's, 0 without an answer.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

Json = dict[str, Any]
MERGE: Final = "application/merge-patch+json"
GONE: Final = 404
CONFLICT: Final = 409
TOO_MANY: Final = 429  # how an eviction is refused
_DENIED: Final = frozenset({401, 403})


class KubeError(OSError):
    """An answer that is none of those hoped for."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status

    @property
    def denied(self) -> bool:
        """Whether the cluster's owner must act: RBAC."""
        return self.status in _DENIED


class NoAnswerError(KubeError):
    """None came: what was asked may have been done, or may be done yet."""


class Answer(NamedTuple):
    """What the API server answered, and the bounds of the instant at which it did what was asked."""

    status: int
    body: Json
    lo_ns: int  # CLOCK_MONOTONIC, before the request left
    hi_ns: int  # after the answer came

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def message(self) -> str:
        """The server's own words."""
        return str(self.body.get("message") or f"HTTP status {self.status}")


class Api(Protocol):
    """One API server, reached directly (helper processes) or through a helper (the agent)."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
    ) -> Answer:
        """One request; any answer is returned. NoAnswerError when none came."""


def expect(answer: Answer, what: str) -> Answer:
    """*answer*, if it is a good one; KubeError in the server's words if not."""
    if answer.good:
        return answer
    if answer.status in _DENIED:
        raise KubeError(f"{what}: the cluster does not allow it: {answer.message}", answer.status)
    raise KubeError(f"{what}: {answer.message}", answer.status)
