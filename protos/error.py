"""Errors by who must act, their exit codes, and how they cross gRPC.

Invariant: every error that leaves a Blackstart process is one of these; foreign exceptions are translated at the
edge with `from`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:  # late: guardians and holders, which need none of it, start in a third of the time without
    import grpc

METADATA_KEY: Final = "blackstart-error-bin"


class Exit(IntEnum):
    """Exit codes of every command."""

    HELD = 0
    DEVIATED = 1
    BAD_INPUT = 2
    INCONCLUSIVE = 3  # also: aborted
    STRANDED = 4
    UNREACHABLE = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where it stands, what is wrong, and what to do about it."""

    where: str  # file, line and path, as far as they are known: "quickstart.yaml:12: method[0].provider"
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.remedy})" if self.remedy else "")


class BlackstartError(Exception):
    """Base of all errors that Blackstart raises on purpose."""

    exit: ClassVar[Exit] = Exit.INCONCLUSIVE
    status_name: ClassVar[str] = "UNKNOWN"

    @property
    def status(self) -> grpc.StatusCode:
        """The gRPC status with which the error crosses the wire."""
        import grpc

        return grpc.StatusCode[self.status_name]


class SpecError(BlackstartError):
    """The author must act: a document or argument is wrong. Carries every problem found, not the first only."""

    exit = Exit.BAD_INPUT
    status_name = "INVALID_ARGUMENT"

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem("input", p) for p in problems)
        super().__init__("\n".join(map(str, self.problems)))


class RefusedError(BlackstartError):
    """Safety said no: blast radius, policy, conflict, role, emergency stop. Nothing was injected."""

    exit = Exit.BAD_INPUT
    status_name = "FAILED_PRECONDITION"


class DeniedError(RefusedError):
    """The caller's certificate does not allow the call."""

    status_name = "PERMISSION_DENIED"


class TransientError(BlackstartError):
    """Try again after *retry_after_s* seconds."""

    status_name = "UNAVAILABLE"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ProbeError(BlackstartError):
    """A measurement could not be made: the verdict is inconclusive, never passed."""

    status_name = "ABORTED"


class FaultError(BlackstartError):
    """A fault could not be injected, and nothing of it is left in force."""

    status_name = "ABORTED"


class StrandedError(BlackstartError):
    """A human must act: a fault could not be reverted. The message ends in the command that does it by hand."""

    exit = Exit.STRANDED
    status_name = "DATA_LOSS"


class UnreachableError(BlackstartError):
    """The controller does not answer."""

    exit = Exit.UNREACHABLE
    status_name = "UNAVAILABLE"


_BY_NAME: Final = {
    kind.__name__: kind
    for kind in (
        SpecError, RefusedError, DeniedError, TransientError, ProbeError, FaultError, StrandedError, UnreachableError,
    )
}  # fmt: skip


def to_metadata(error: BlackstartError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries *error* to the caller."""
    document: dict[str, object] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, SpecError):
        document["problems"] = [asdict(problem) for problem in error.problems]
    return ((METADATA_KEY, json.dumps(document).encode()),)


def from_rpc(error: grpc.RpcError) -> BlackstartError:
    """The error that the server raised; without its metadata, what the status code says."""
    import grpc

    metadata: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for key, value in metadata or ():
        if key == METADATA_KEY:
            return _from_document(json.loads(value))
    code = error.code() if hasattr(error, "code") else None
    details = (error.details() if hasattr(error, "details") else None) or str(error)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return UnreachableError(details)
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return DeniedError(details)
    return BlackstartError(details)


def _from_document(document: dict[str, object]) -> BlackstartError:
    kind = _BY_NAME.get(str(document["kind"]), BlackstartError)
    if kind is SpecError and isinstance(rows := document.get("problems"), list):
        return SpecError(*(Problem(**row) for row in rows))
    return kind(str(document["message"]))
