"""The contract of a probe, and what all of them share: reading a spec, and telling whose failure an OS error is.

Invariant: an attempt ends in a `Code` within its timeout and leaves nothing open; it does not raise for what the
service did. Failures of the probe itself are `Code.ERROR`: no data, neither good nor bad.
Source: docs/measuring-recovery.md, section 1.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, Final, Protocol, TypeVar

import msgspec

from protos.error import Problem, SpecError
from protos.recovery import Code

OURS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN))

SpecT = TypeVar("SpecT", bound="ProbeSpec")


class ProbeSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields of a probe's spec."""

    def problems(self) -> list[tuple[str, str]]:
        """What the types do not say: (field, what is wrong with it), all of them."""
        return []


class Probe(Protocol):
    """One way of asking a service whether it serves. Attempts may overlap."""

    kind: ClassVar[str]
    spec_type: ClassVar[type[ProbeSpec]]

    @staticmethod
    def missing() -> str:
        """What this node lacks for this kind, in words; empty where it is available."""
        ...

    async def open(self) -> None:
        """Makes ready. A service that is down is no error."""
        ...

    async def attempt(self, timeout_s: float) -> Code:
        """Asks once."""
        ...

    async def close(self) -> None:
        """Releases everything; attempts in flight have ended before."""
        ...


def read_spec(kind: str, spec_type: type[SpecT], document: Any) -> SpecT:
    """*document* as *spec_type*. SpecError names every problem, not the first only."""
    where = f"spec of probe {kind}"
    if not isinstance(document, dict):
        raise SpecError(Problem(where, f"{type(document).__name__} instead of an object"))
    fields = {field.encode_name: field for field in msgspec.structs.fields(spec_type)}
    known = f"known: {', '.join(fields)}"
    problems = [Problem(f"{where}.{name}", "unknown field", known) for name in document if name not in fields]
    for name, field in fields.items():
        if name not in document:
            if field.required:
                problems.append(Problem(f"{where}.{name}", "is missing"))
            continue
        try:
            msgspec.convert(document[name], field.type)
        except msgspec.ValidationError as error:
            problems.append(Problem(f"{where}.{name}", str(error)))
    strangers = sum(name not in fields for name in document)
    if len(problems) == strangers:  # what is known is well typed: say what else is wrong with it
        spec = msgspec.convert({name: document[name] for name in document if name in fields}, spec_type)
        problems += [Problem(f"{where}.{name}", what) for name, what in spec.problems()]
        if not problems:
            return spec
    raise SpecError(*problems)


def code_of(error: OSError) -> Code:
    """What a connection that failed with *error* says of the service.

    EPERM counts against it: that is what a packet filter on the way out answers.
    """
    if isinstance(error, TimeoutError):
        return Code.TIMEOUT
    return Code.ERROR if error.errno in OURS else Code.REFUSED
